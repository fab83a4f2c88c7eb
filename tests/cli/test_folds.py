"""A cross-validation from the command line: one run trains and attacks every fold, one row holds all patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.command import invoke
from PIL import Image

from robustbench_med.leaderboard.add import add
from robustbench_med.leaderboard.sources.folder import read_sources


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Nine patients of two images each, one with a bright disc."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for patient in range(9):
        for lesion, name in enumerate(("no", "yes")):
            values = 60 + 20 * draw.normal(size=(32, 32)) + 120 * lesion * ((x - 14) ** 2 + (y - 18) ** 2 < 40)
            path = tmp_path / "scans" / name / f"P{patient}_{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)
    return tmp_path / "scans"


def rbmed(*args: object) -> str:
    done = invoke(*args)
    assert done.exit_code == 0, done.output
    return done.output.replace("\n", " ")


@pytest.mark.long
def test_all_folds_of_one_command_are_one_row(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    data = "imagefolder:size=32,folds=3,patient=P[0-9]"
    options = ("--data-root", scans, "--defense", "undefended", "--baseline", "", "--strategy", "fedavg:rounds=1")
    shown = rbmed("run", "--train", "--dataset", data, *options, "--access", "ladder:quick", "--out", tmp_path / "out")
    assert "3 cells in" in shown
    assert "3 folds pooled: undefended" in shown
    assert "n 18/9" in shown
    add(tmp_path / "board", tmp_path / "out", "mine")
    (board,) = read_sources(tmp_path / "board").boards()
    (entry,) = board.entries
    assert (entry.ranked, entry.images, entry.patients, entry.folds) == (True, 18, 9, 3)
    assert len({record.defense.weights.digest for record in read_sources(tmp_path / "board").records}) == 3
    one = rbmed("run", "--dataset", f"{data},fold=1", *options, "--access", "ladder:quick", "--out", tmp_path / "one")
    assert "incomplete: of 3 folds, fold 0, 2 was not measured" in one
