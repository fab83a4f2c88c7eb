"""Two finished runs of the toys in the current folder, ``first`` and ``plain``, and changed copies of the first."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from click.testing import Result

from helpers import trained_toys
from helpers.command import invoke, own_folder
from helpers.paths import TOY
from robustbench_med.records.folder import open_results
from robustbench_med.records.record import Record, append, dumped

#: The command line with options.
Run = Callable[..., Result]
CELL = tuple(
    shlex.split(
        "--dataset stripes --defense guarded --baseline bare --attack shift:factor=0.5 --eps 1/10 --surrogate bare"
    )
)


@contextmanager
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """``rbmed -p toy_plugin.py ...`` in a folder of its own; ``first`` holds a first run, ``plain`` a plain cell."""
    with own_folder(tmp_path_factory):
        call = partial(invoke, "-p", TOY)
        trained_toys.place()
        first = call("run", *CELL, "--out", "first")
        assert first.exit_code == 0, first.output
        table = Path("grid.toml")
        table.write_text(
            'dataset = {name = "stripes", test = 16}\ndefense = {name = "guarded", fpr = 0.2}\nbaseline = ""\n'
            'attack = {name = "shift", factor = 0.75}\neps = [0.1]\naccess = ["gate", "transfer", "ladder:quick"]\n'
            'surrogate = "bare"\nmodel = "linear"\nstrategy = {name = "own", steps = 5}\nclient = ["site-1"]\n'
            'evasion = "joint:0.5"\neot = 2\nlimit = 6\nseed = 3\ntrain_seed = 1\nunseen_site = ["site-1"]\n'
            'malicious = "site-0"\nmax_gradients = 50\nstand_in = "blur"\ngoal = "hide-lesion"\ndiagnostics = "full"\n'
        )
        patched = call("run", table, "--train", "--out", "plain")
        assert patched.exit_code in (0, 1), patched.output
        yield call


def forged(folder: str, change: Callable[[dict[str, object]], None]) -> Path:
    """A copy of the first run whose guarded claim says something else."""
    target = Path(folder)
    shutil.rmtree(target, ignore_errors=True)
    for record in open_results(Path("first")):
        facts = json.loads(dumped(record))
        if (facts["defense"]["name"], facts["role"]) == ("guarded", "claim"):
            change(facts)
        append(target / "records.jsonl", Record.model_validate(facts))
    return target


def claim(path: Path) -> Record:
    return next(r for r in open_results(path) if (r.defense.name, r.role) == ("guarded", "claim"))
