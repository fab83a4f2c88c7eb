"""Whatever a configuration says, it is read or refused in one line: no traceback, no hang, nothing written.

A hundred cases of each kind run with the other tests, always the same. The long run looks for new ones and takes two
minutes of processor time::

    FUZZ_CASES=10000 pytest tests/grid/test_fuzz_config.py
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time, timedelta
from pathlib import Path

import pytest
from helpers.fuzz import CASES, FUZZ
from helpers.paths import TOY
from helpers.processes import LIMIT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robustbench_med.errors import UsageError
from robustbench_med.grid.cell import cell_labels, cell_of
from robustbench_med.grid.config import OPTIONS, RunConfig, build
from robustbench_med.grid.filters import CELL_LABELS
from robustbench_med.grid.plan import plan
from robustbench_med.plugins.registry import Registry

#: Largest grid that a case expands; larger ones are valid, and only slow.
LARGE = 200
#: Longest message of an error: it is one line of a terminal or a few, never a page.
LONGEST = 1500

fuzz = settings(FUZZ, max_examples=int(CASES or 100), deadline=timedelta(seconds=LIMIT))


@pytest.fixture(scope="module")
def toys(empty_folder: Path) -> Registry:
    """The toys alone: what other plugins import takes seconds."""
    return Registry(files=[TOY], only=())


@pytest.fixture(scope="module", autouse=True)
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cases run in a folder that is empty and stays so."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(tmp_path_factory.mktemp("home")))
        patch.chdir(folder)
        yield folder
        assert list(folder.iterdir()) == []


# --- what is written ---

words = st.sampled_from(
    [
        "shift",
        "shift:factor=2",
        "guarded",
        "bare",
        "guarded:fpr=0.2",
        "stripes",
        "stripes:test=4",
        "linear",
        "own",
        "pooled",
        "oblivious",
        "bpda",
        "ladder",
        "ladder:quick",
        "query",
        "4/255",
        "linf:4/255",
        "l2:1",
        "site-0",
        "auto",
        "attack=shift*",
        "client=site-?",
        "seed=0",
        "each",
        "../../etc/passwd",
        "a\0b",
        "name:key=[",
        "x:=",
        "nan",
        "1e999",
        "\ud800",
        "",
    ]
)
scalars = st.one_of(
    words,
    st.text(max_size=30),
    st.integers(),
    st.integers(0, 3),
    st.floats(),
    st.booleans(),
    st.none(),
    st.dates(),
    st.datetimes(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(words, st.text(max_size=8), st.sampled_from(["name", "norm", "eps"])), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
#: Mostly sound, so that cases reach what lies behind the first check.
sound = {
    "dataset": st.just("stripes"),
    "defense": st.lists(st.sampled_from(["guarded", "bare", "guarded:fpr=0.3"]), min_size=1, max_size=3),
    "baseline": st.sampled_from(["bare", ""]),
    "attack": st.lists(st.sampled_from(["shift", "shift:factor=2"]), min_size=1, max_size=2),
    "access": st.lists(st.sampled_from(["oblivious", "bpda", "full", "gate", "query"]), min_size=1, max_size=3),
    "surrogate": st.just("bare"),
}
keys = st.one_of(st.sampled_from(sorted(OPTIONS)), st.text(max_size=12))
tables = st.builds(
    lambda base, odd: base | odd,
    st.fixed_dictionaries(sound),
    st.dictionaries(keys, values, max_size=3),
)


def judged(toys: Registry, options: dict[str, object], file: Path | None = None) -> None:
    """The request makes a plan, or is refused as requests are."""
    try:
        config = build(options, file)
        if cells_of(config) > LARGE:
            return
        for planned in plan(config, toys):
            assert set(cell_labels(cell_of(planned))) == set(CELL_LABELS)
    except UsageError as error:
        message = str(error)
        assert message
        assert "\n" not in message, message
        assert len(message) <= LONGEST, message


def cells_of(config: RunConfig) -> int:
    """An upper bound of the cells that this configuration lists."""
    axes = (
        config.dataset,
        config.model,
        config.strategy,
        config.train_seed,
        (*config.defense, "baseline"),
        config.threats,
        config.seed,
        config.client,
        (*config.attack, "probe"),
        config.access,
    )
    product = 1
    for axis in axes:
        product *= max(1, len(axis))
    return product


# --- a table of Python values, as the API takes it ---


@fuzz
@given(options=tables)
@example(options={"seed": [0], "train_seed": [2**63]})
@example(options={"defense": "guarded", "weights": "\0"})
@example(options={"include": [{"attack": ["*" * 30 + "x"]}]})
@example(options={"dataset": date(2000, 1, 1)})
@example(options={"dataset": [date(2000, 1, 1)], "test_folder": "x"})
@example(options={"attack": time(1)})
@example(options={"weights": str(TOY), "model": date(2000, 1, 1)})
@example(options={"weights": str(TOY), "model": {1: 2}})
@example(options={"weights": str(TOY), "model": {"net.py:build"}})
def test_tables(toys: Registry, options: dict[str, object]) -> None:
    judged(toys, options)


# --- a file ---

lines = st.builds("{} = {}".format, keys, st.one_of(st.text(max_size=20), values.map(repr), values.map(str)))
files = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(lines, max_size=5).map(lambda several: "\n".join(several).encode("utf-8", "surrogatepass")),
)


@fuzz
@given(data=files)
@example(data=b"a = " + b"[" * 5000)
@example(data=b"a." * 5000 + b"b = 1")
@example(data=b"seed = " + b"1" * 5000)
@example(data=b"defense = {name = 'guarded', fpr = nan}")
@example(data=b"eps = 1979-05-27")
def test_files(toys: Registry, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "grid.toml"
    file.write_bytes(data)
    judged(toys, {}, file)
