"""What a grid file may say, and which cells come of it in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.grids import COMPARED, cells

import robustbench_med as rbmed
from robustbench_med.errors import BadConfig, BadParameter
from robustbench_med.files.toml_file import LARGEST
from robustbench_med.grid.cell import Cell, axes, cell_labels
from robustbench_med.grid.config import build
from robustbench_med.grid.filters import CELL_LABELS
from robustbench_med.grid.plan import grouped, plan
from robustbench_med.plugins.registry import Registry


def test_threats_name_norm_eps_and_goal_together() -> None:
    config = build({"threat": ["linf:4/255", "l2:eps=1/2,goal=hide-lesion", {"norm": "l1", "eps": 12}]})
    assert [(t.norm, t.eps, t.goal) for t in config.threats] == [
        ("linf", 4 / 255, "untargeted"),
        ("l2", 0.5, "hide-lesion"),
        ("l1", 12.0, "untargeted"),
    ]
    plain = build({"norm": "l2", "eps": ["1/2", 1], "goal": "fake-lesion"})
    assert [(t.norm, t.eps, t.goal) for t in plain.threats] == [("l2", 0.5, "fake-lesion"), ("l2", 1.0, "fake-lesion")]


def test_threats_reach_the_cells(toys: Registry) -> None:
    made = cells(toys, threat=["linf:1/10", "linf:1/10,goal=hide-lesion"])
    assert [(c.defense.name, c.threat.eps, c.threat.goal) for c in made] == [
        ("bare", 0.1, "untargeted"),
        ("bare", 0.1, "hide-lesion"),
        ("guarded", 0.1, "untargeted"),
        ("guarded", 0.1, "hide-lesion"),
    ]


def test_a_cell_for_each_client_named_unseen_or_found(toys: Registry) -> None:
    each = {"baseline": "", "each_client": True}
    assert [c.clients for c in cells(toys, **each)] == [("site-0",), ("site-1",)]
    assert [c.clients for c in cells(toys, **each, client=["b", "a"])] == [("b",), ("a",)]
    assert [c.clients for c in cells(toys, **each, unseen_site="site-1")] == [("site-1",)]
    assert [c.clients for c in cells(toys, baseline="", client=["b", "a"])] == [("b", "a")]
    partitioned = cells(toys, **each, partition="iid:clients=3")
    assert len({c.clients for c in partitioned}) == 3


def test_the_clients_come_from_the_data_sets_that_are_open_already(toys: Registry) -> None:
    opened: list[str] = []

    def dataset(ref: object) -> rbmed.Dataset:
        opened.append(ref.dataset.name)  # type: ignore[attr-defined]
        return rbmed.load_dataset("stripes", registry=toys)

    config = build(
        {**COMPARED, "access": "oblivious", "each_client": True, "seed": [0, 1], "strategy": ["pooled", "own"]}
    )
    assert len(list(plan(config, toys, dataset))) == 2 * 2 * 2 * 2
    assert opened == ["stripes"]


def test_folds_stand_for_each_of_them() -> None:
    folds = ("lgg:folds=3,fold=0", "lgg:folds=3,fold=1", "lgg:folds=3,fold=2")
    assert build({"dataset": "lgg:folds=3"}).dataset == folds
    table = {"name": "lgg", "folds": 3}
    assert build({"dataset": table}).dataset == tuple({**table, "fold": fold} for fold in range(3))
    assert build({"dataset": ["brainsim", "lgg:folds=3"]}).dataset == ("brainsim", *folds)
    for one in ("lgg:folds=3,fold=1", "lgg:folds=0", "lgg:folds=x", "lgg:folds=99999999"):
        assert build({"dataset": one}).dataset == (one,)


def test_what_is_named_twice_is_measured_once(toys: Registry) -> None:
    assert len(cells(toys, seed=[0, 1, 0], defense=["guarded", "guarded"])) == 2 * 2
    tables = [{"name": "guarded", "fpr": 0.2}, {"name": "guarded", "detector": {"name": "mae", "passes": 2}}]
    texts = ["guarded:fpr=0.2", "guarded:detector=[mae:passes=2]"]
    assert len(cells(toys, defense=[*tables, *texts])) == 3
    ids = [[c.id("data", "weights") for c in cells(toys, defense=refs)] for refs in (tables, texts)]
    assert ids[0] == ids[1]


def test_why_a_rung_is_left_out_is_no_part_of_the_cells_id(toys: Registry) -> None:
    cell = cells(toys, access="ladder:quick", defense="guarded")[-1]
    here, there = (cell.without("bpda", f"no weights in {folder}") for folder in ("/home/a", "/home/b"))
    assert isinstance(here, Cell)
    assert isinstance(there, Cell)
    assert here != there
    assert here.id("data", "weights") == there.id("data", "weights") != cell.id("data", "weights")


def test_a_grid_too_large_to_be_listed_is_refused_at_once(toys: Registry) -> None:
    with pytest.raises(BadParameter, match=r"this grid has 2000000 cells, more than 100000"):
        cells(toys, seed=list(range(1000)), eps=[n / 1000 for n in range(1, 1001)])


# --- names and order ---


def test_labels_name_a_cell(toys: Registry) -> None:
    (cell,) = cells(
        toys,
        baseline="",
        access="ladder",
        client=["site-0", "site-1"],
        eps="4/255",
        train_seed=3,
        partition="iid:clients=3",
        attack="shift:factor=2",
    )
    assert cell_labels(cell) == dict.fromkeys(CELL_LABELS, "") | {
        "dataset": "stripes",
        "partition": "iid:clients=3",
        "train_seed": "3",
        "defense": "guarded",
        "attack": "ladder:quick shift:factor=2",
        "access": "ladder",
        "norm": "linf",
        "eps": "4/255",
        "goal": "untargeted",
        "client": "site-0+site-1",
        "seed": "0",
        "role": "cell",
    }


def test_axes_are_the_labels_that_differ(toys: Registry) -> None:
    made = [cell_labels(cell) for cell in cells(toys, seed=[0, 1], baseline="", each_client=True)]
    assert axes(made) == ("client", "seed")
    assert axes(made[:1]) == ()


def test_cells_that_share_data_weights_or_clean_predictions_stand_together(toys: Registry) -> None:
    made = cells(
        toys,
        dataset=["stripes", "stripes:test=10"],
        seed=[0, 1],
        eps=["1/10", "2/10"],
        train_seed=[0, 1],
        attack=["shift", "shift:factor=0.5"],
    )
    assert len(made) == 2 * 2 * 2 * 2 * 2 * 2

    def changes(key: Callable[[Cell], object]) -> int:
        values = [repr(key(cell)) for cell in made]
        return sum(a != b for a, b in pairwise(values))

    assert changes(lambda c: c.dataset) == 2 - 1
    assert changes(lambda c: c.trained) == 2 * 2 * 2 - 1
    assert changes(lambda c: (c.trained, c.seed)) == 2 * 2 * 2 * 2 - 1
    apart = cells(toys, baseline="", seed=[0, 1], eps=["1/10", "2/10"], client=["b", "a"], each_client=True)
    assert [(c.clients[0], c.seed) for c in apart] == [("b", 0)] * 2 + [("b", 1)] * 2 + [("a", 0)] * 2 + [("a", 1)] * 2
    assert [cell_labels(c)["defense"] for c in made[:16]] == ["bare"] * 8 + [
        "guarded"
    ] * 8  # the baseline first, as asked


def test_groups_keep_the_order_of_their_first_item() -> None:
    items = ["b1", "a1", "b2", "a1", "c1", "b1"]
    assert grouped(items, lambda text: (text[0], text)) == ["b1", "b1", "b2", "a1", "a1", "c1"]


# --- files ---


def test_a_configuration_is_found_by_path_or_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.toml").write_text("seed = 7")
    (tmp_path / "configs" / "other.toml").write_text("seed = 8")
    assert build({}, Path("mine")).seed == (7,)
    assert build({}, Path("configs/other.toml")).seed == (8,)
    (tmp_path / "mine").write_text("seed = 9")
    assert build({}, Path("mine")).seed == (9,)  # what is there wins
    with pytest.raises(BadConfig, match=r"no such file; by name in configs: .*mine, other"):
        build({}, Path("missing"))
    with pytest.raises(BadConfig, match="no such file"):
        build({}, Path("../configs/mine"))  # a name is no way out of the folder
    with pytest.raises(BadConfig, match="configs is not a file"):
        build({}, Path("configs"))


def test_published_configurations_are_found_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build({}, Path("leaderboard/brainsim")).limit == 64
    assert build({}, Path("leaderboard/lgg")).dataset[0] == "lgg:folds=5,fold=0"
    with pytest.raises(BadConfig, match="no such file"):
        build({}, Path("leaderboard/../attacks"))


def test_a_file_with_a_byte_order_mark_and_windows_lines_is_read(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_bytes(b"\xef\xbb\xbfseed = 7\r\nlimit = 5\r\n")
    assert build({}, file).seed == (7,)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"seed = [", "is not TOML"),
        ("seed = 1".encode("utf-16"), "is not TOML: it is written in UTF-16; save it as UTF-8"),
        (b"# Gr\xfc\xdfe\nseed = 1", "is not TOML: 'utf-8' codec"),
        (b"seed = " + b"9" * 5000, "is not TOML"),
        (b"seed = " + b"[" * 100_000, "nested too deeply"),
        (b"#" * (LARGEST + 1), "larger than 1 MiB"),
    ],
    ids=["broken", "utf-16", "latin-1", "digits", "deep", "large"],
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "grid.toml"
    file.write_bytes(data)
    with pytest.raises(BadConfig, match=words) as caught:
        build({}, file)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_a_file_that_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadConfig, match="is not a file"):
        build({}, tmp_path / "pipe")


def test_an_unknown_key_comes_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text('defence = "undefended"')
    with pytest.raises(BadParameter, match=r"unknown key 'defence' in .*grid\.toml, did you mean 'defense'\? valid: "):
        build({}, tmp_path / "grid.toml")


@pytest.mark.parametrize("line", ["limit = true", "eps = [true]", "seed = false", "precision = true"])
def test_true_is_no_number(tmp_path: Path, line: str) -> None:
    """As a number it would be 1."""
    file = tmp_path / "grid.toml"
    file.write_text(line)
    with pytest.raises(
        BadParameter, match=rf"--{line.split()[0]} .* in .*grid\.toml: true and false are no values of it"
    ):
        build({}, file)
    with pytest.raises(BadParameter, match="--limit True on the command line: true and false are no values"):
        build({"limit": True, "train": True})


def test_an_error_says_whether_the_file_or_the_command_line_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text('norm = "l7"\n')
    with pytest.raises(BadParameter, match=r"--norm 'l7' in .*grid\.toml: valid: linf, l2, l1"):
        build({"norm": None, "seed": []}, file)
    with pytest.raises(BadParameter, match="--norm 'l8' on the command line"):
        build({"norm": "l8"}, file)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threat": "linf"}, "--threat"),
        ({"threat": "l7:1"}, "valid: linf, l2, l1"),
        ({"threat": "linf:0"}, "eps must be > 0"),
        ({"threat": "linf:nan"}, "eps must be > 0"),
        ({"threat": "linf:1/0"}, "not a number"),
        ({"threat": "linf:4/255", "eps": "1/10"}, "cannot be combined with eps"),
        ({"eps": "1/0"}, "--eps '1/0' on the command line"),
        ({"out": "a\0b"}, "null character"),
        ({"train_seed": 2**63}, "--train-seed"),
        ({"defense": ["x" * 1000] * 9, "seed": "x" * 1000}, "--seed"),
    ],
)
def test_bad_values_are_one_short_line(options: dict[str, object], words: str) -> None:
    with pytest.raises(BadParameter) as caught:
        build(options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
