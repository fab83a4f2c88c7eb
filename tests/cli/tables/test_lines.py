"""Lines below the table: what tells two of them apart is said, what several have in common is said once."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from helpers.folds import SAFE, fold
from rich.console import Console

from robustbench_med.cli.tables import summary
from robustbench_med.cli.tables.lines import folds
from robustbench_med.cli.tables.records import in_short, ladder, warnings
from robustbench_med.records.record import Record, dumped, parse
from robustbench_med.records.summary import images_of


def all_folds(**changes: object) -> list[Record]:
    """The folds of `SAFE`, each with other facts at the top of its record."""
    made = [fold(number, safe) for number, safe in enumerate(SAFE)]
    return [parse(json.dumps(json.loads(dumped(each)) | changes)) for each in made]


def test_pooled_lines_of_two_seeds_and_limits_name_them(tmp_path: Path) -> None:
    records = [*all_folds(), *all_folds(seed=1), *all_folds(limit=8)]
    named = [line.partition("4/255")[2].partition(":")[0] for line in folds(records, tmp_path)]
    assert named == [", seed 0", ", seed 1", ", seed 0, limit 8"]


def test_a_pooled_line_alone_names_neither(tmp_path: Path) -> None:
    (line,) = folds(all_folds(), tmp_path)
    assert "seed" not in line
    assert "limit" not in line


def test_a_warning_of_all_folds_names_the_system_once() -> None:
    odd = {"level": "full", "flags": ["constant-answer"], "notes": [], "seconds": 0.0, "figures": {}}
    (line,) = warnings(all_folds(diagnostics=odd))
    assert line.startswith("f (folds 0, 1, 2) / ladder")
    (line,) = warnings([*all_folds()[:1], *all_folds(diagnostics=odd)[1:2]])
    assert line.startswith("f (fold 1) / ladder")


def test_the_table_of_a_ladder_says_of_which_fold_and_seed_it_is() -> None:
    table = ladder(all_folds()[1], {"fold": "1", "trained": "seed 0", "seed": "2", "client": ""})
    assert table is not None
    assert str(table.title) == "f on the ladder (fold 1, train-seed 0, seed 2)"


def test_a_rung_that_every_fold_lacks_is_explained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(summary, "plain", said.append)
    monkeypatch.setattr(summary, "out", Console(file=io.StringIO()))
    summary.show(all_folds(), tmp_path)
    lacking = [line for line in said if ": no rung " in line]
    assert lacking
    assert len(lacking) == len(set(lacking))


def test_one_cell_and_one_image_are_no_plural() -> None:
    skipped = all_folds(status="skipped", reason="no gradients")[0]
    assert list(in_short([skipped]))[-1] == "1 cell was skipped: no gradients"
    assert images_of(1, 1) == "1 image of 1 patient"
    assert images_of(1, None) == "1 image (patients not recorded)"
