"""Ladders of an earlier revision go to the archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from helpers.command import invoke
from helpers.leaderboard import folder
from helpers.records import ladder_record, outcome

from robustbench_med.files.jsonl import content, write
from robustbench_med.grid.ladder import REVISION
from robustbench_med.leaderboard.archive import earlier_ladders
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.image_results import dumped
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.records import read_records

SAFE = [True, False] * 4
OLD = {"name": "ladder", "params_passed": {"preset": "quick"}, "revision": REVISION - 1}


def example(root: Path) -> Path:
    """A system with ladders of both revisions, and another."""
    records = [
        ladder_record("0", SAFE, name="again", attack=OLD, created="2025-01-01T00:00"),
        ladder_record("1", SAFE, name="again"),
        ladder_record("2", SAFE, name="other"),
    ]
    texts = [dumped(outcome(record.cell_id, SAFE)) for record in records]
    return folder(root, *records, outcomes="".join(f"{text}\n" for text in texts))


def archived(root: Path) -> str:
    found = invoke("leaderboard", "archive", "--root", root)
    assert found.exit_code == 0, found.output
    return found.output


def cells(root: Path) -> list[str]:
    return [record.cell_id for record in read_records(root / "records" / "a.jsonl")]


def test_an_earlier_ladder_is_moved_with_its_images_as_it_was_written(tmp_path: Path) -> None:
    example(tmp_path)
    lines = (tmp_path / "records" / "a.jsonl").read_text().splitlines()
    assert "1 record archived" in archived(tmp_path)
    assert cells(tmp_path) == ["1", "2"]
    place = tmp_path / "archive"
    assert content(place / "records" / "a.jsonl.gz").decode().splitlines() == lines[:1]
    assert [each.cell_id for each in read_outcomes(place / "outcomes" / "a.jsonl.gz")] == ["0"]
    assert [each.cell_id for each in read_outcomes(tmp_path / "outcomes" / "a.jsonl")] == ["1", "2"]
    assert "0 records archived" in archived(tmp_path)
    assert content(place / "records" / "a.jsonl.gz").decode().splitlines() == lines[:1]


def test_a_move_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    example(tmp_path)
    lines = (tmp_path / "records" / "a.jsonl").read_text().splitlines()
    place = tmp_path / "archive" / "records" / "a.jsonl.gz"
    write(place, f"{lines[0]}\n".encode())
    archived(tmp_path)
    assert content(place).decode().splitlines() == lines[:1], "not twice"
    assert cells(tmp_path) == ["1", "2"]


def test_a_file_without_records_goes(tmp_path: Path) -> None:
    example(tmp_path)
    lines = (tmp_path / "records" / "a.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "records" / "a.jsonl").write_text("".join(lines[1:]))
    (tmp_path / "records" / "b.jsonl").write_text(lines[0])
    archived(tmp_path)
    assert not (tmp_path / "records" / "b.jsonl").exists()
    assert content(tmp_path / "archive" / "records" / "b.jsonl.gz").decode() == lines[0]


def test_what_others_handed_in_stays(tmp_path: Path) -> None:
    """A submission, and a cell that evidence is against."""
    example(tmp_path)
    read = read_sources(tmp_path)
    assert earlier_ladders(read) == {"0"}
    assert not earlier_ladders(replace(read, owners={"0": "theirs"}))
    against = replace(read.outcomes["0"], cell_id="0")
    evidence = Evidence("e", "0", "sharper", Paper("P", "https://example.org"), "0" * 64, against, against)
    assert not earlier_ladders(replace(read, evidence=(evidence,)))
