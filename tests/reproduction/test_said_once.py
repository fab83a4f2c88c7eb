"""What is wrong with many cells, such as that their images are not here, is said once, with what would be valid."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.paths import ROOT

from robustbench_med.cli.commands.published_records import opened
from robustbench_med.cli.commands.verify import show_finding
from robustbench_med.plugins.registry import Registry
from robustbench_med.reproduction import plausibility
from robustbench_med.reproduction.verify import Finding

LGG = ROOT / "leaderboard" / "records" / "plus-lgg.jsonl"


@pytest.fixture(autouse=True)
def _without_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RBMED_DATA", raising=False)
    monkeypatch.setenv("RBMED_HOME", str(tmp_path))


def test_cells_without_images_are_one_line_of_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    submission = opened(LGG)
    count = len(submission.records)
    assert count > plausibility.NAMED
    looked: list[object] = []
    real = plausibility.opened

    def counting(*args: object) -> object:
        looked.append(args)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(plausibility, "opened", counting)
    lines = list(plausibility.objections(submission, {}, Registry()))
    (line,) = [each for each in lines if "not known here" in each]
    first = ", ".join(record.cell_id for record in submission.records[: plausibility.NAMED])
    assert line.startswith(
        f"each of {count} cells ({first} and {count - plausibility.NAMED} more): its images are not known"
    )
    assert "give --data-root FOLDER" in line
    assert len(looked) == len({record.dataset.digest for record in submission.records})


def test_why_cells_cannot_be_verified_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    records = opened(LGG).records[:3]
    before: list[Finding] = []
    for record, why in zip(
        records, ("no images: give --data-root", "no images: give --data-root", "else"), strict=True
    ):
        show_finding(finding := Finding(record, "impossible", (why,)), before)
        before.append(finding)
    said = capsys.readouterr().out
    assert said.count("give --data-root") == 1
    assert said.count("impossible") == 3
    assert said.count("(as above)") == 1
    assert "else" in said
