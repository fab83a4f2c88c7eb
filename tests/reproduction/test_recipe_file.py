"""A defense from a recipe file, all the way: measured, verified, submitted."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.paths import TOY

RECIPE = """
model = "linear"
strategy = "pooled"
detector = "feature-squeezing"
purifier = {name = "median", radius = 1}
fpr = 0.1
"""


def test_a_recipe_file_can_be_verified_and_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(RECIPE)

    def rbmed(*args: str) -> str:
        done = invoke("-p", TOY, *args)
        assert done.exit_code == 0, done.output
        return done.output

    ladder = ("--eps", "1/50", "--surrogate", "bare", "--access", "ladder:quick")
    run = ("run", "--train", "--defense", "mine.toml", *ladder)
    rbmed(*run, "--dataset", "stripes", "--baseline", "bare", "--out", "mine")
    # Of other test images, and so newer weights that are the same.
    rbmed(*run, "--baseline", "", "--dataset", "stripes:test=16", "--out", "other")
    assert "2 of 2 cells are verified" in rbmed("verify", "mine")
    done = rbmed("submit", "mine", "--defense", "mine.toml", "--paper", "https://example.org", "--root", "empty")
    assert "submission/mine.json" in done.replace("\n", "")
    assert Path("submission/mine.json").read_text().count('"cell_id"') == 2  # a record and its images
