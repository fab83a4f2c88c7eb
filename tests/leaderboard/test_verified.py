"""A maintainer's word: what was handed in has no rank, and lowers no row, until someone here has run it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.records import ladder_record, outcome

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.entry import Entry, Paper
from robustbench_med.leaderboard.ranking.history import events
from robustbench_med.leaderboard.sources import evidence, submission, verified
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.image_results import dumped as dumped_outcome
from robustbench_med.leaderboard.sources.submission import Submission
from robustbench_med.leaderboard.sources.verified import Fresh, Word, digest_of_cell, digest_of_file
from robustbench_med.records.record import dumped

PAPER = Paper("P 2026", "https://example.org")
OURS, THEIRS = [True, False] * 4, [True] * 8
FRESH: dict[str, Any] = {"source": "d:seed=7", "n": 8, "clean": 1.0, "robust": 0.5, "low": 0.2, "high": 0.8}
LATER = "2026-02-01T00:00:00+00:00"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A leaderboard with a row of ours, and a submission of the same system that claims more."""
    for kind, text in (("records", dumped(ladder_record("0", OURS))), ("outcomes", dumped_outcome(outcome("0", OURS)))):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "x.jsonl").write_text(f"{text}\n")
    theirs = ladder_record("1", THEIRS, created=LATER)
    made = Submission("theirs", "f", PAPER, "", (theirs,), {"1": outcome("1", THEIRS)})
    submission.write(tmp_path / "submissions" / "theirs.json", made)
    return tmp_path


def word(of: str, digest: str, verdict: str = "identical", **more: object) -> Word:
    return Word.model_validate(
        {"of": of, "digest": digest, "verdict": verdict, "by": "M", "date": "2026-03-01", **more}
    )


def accept(root: Path, **more: object) -> None:
    sources = read_sources(root)
    (record,) = [each for each in sources.records if each.cell_id == "1"]
    digest = digest_of_cell(record, sources.outcomes["1"])
    verified.add(root / verified.VERIFIED, {"1": word("1", digest, **more)})  # type: ignore[arg-type]


def entries(root: Path) -> dict[str, Entry]:
    """By the only cell of each."""
    (board,) = read_sources(root).boards()
    return {entry.records[0].cell_id: entry for entry in board.entries}


def test_a_submission_has_no_rank_before_a_maintainer_verified_it(root: Path) -> None:
    found = entries(root)
    assert (found["0"].ranked, found["0"].verified) == (True, "")
    assert found["1"].why_not == "submitted as theirs, and not verified by a maintainer yet"
    accept(root)
    assert entries(root)["1"].ranked
    assert entries(root)["1"].verified == "identical, M"


def test_a_word_does_not_hold_for_what_was_edited_after_it(root: Path) -> None:
    accept(root)
    file = root / "submissions" / "theirs.json"
    facts = json.loads(file.read_text())
    facts["records"][0]["seconds"] = 1.0
    file.write_text(json.dumps(facts))
    assert not entries(root)["1"].ranked


def test_a_word_on_another_cell_is_no_word_on_this_one(root: Path) -> None:
    """Words are lines of a file, which a pull request can edit: one that is copied holds nowhere else."""
    sources = read_sources(root)
    ours = next(each for each in sources.records if each.cell_id == "0")
    copied = word("1", digest_of_cell(ours, sources.outcomes["0"]), fresh=Fresh(**FRESH))
    verified.add(root / verified.VERIFIED, {"1": copied})
    found = entries(root)["1"]
    assert (found.ranked, found.verified, found.fresh) == (False, "", None)


@pytest.mark.parametrize("change", [{"robust": 0.9}, {"n": 0}, {"low": 0.6}, {"clean": 1.5}, {"extra": 1}])
def test_figures_on_fresh_images_that_contradict_themselves_are_refused(root: Path, change: dict[str, float]) -> None:
    line = {"of": "1", "digest": "0" * 64, "verdict": "identical", "by": "M", "date": "2026-03-01"}
    (root / verified.VERIFIED).write_text(json.dumps(line | {"fresh": FRESH | change}) + "\n")
    with pytest.raises(DataError, match=r"verified\.jsonl: line 1 is no maintainer's word: fresh"):
        read_sources(root)


def test_within_needs_a_reason(root: Path) -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        word("1", "0" * 64, "within")
    accept(root, verdict="within", why="the same on a third machine")
    assert entries(root)["1"].verified == "within, M: the same on a third machine"
    (root / verified.VERIFIED).write_text('{"of": "1"}\n')
    with pytest.raises(DataError, match=r"verified\.jsonl: line 1 is no maintainer's word: digest"):
        read_sources(root)


def test_fresh_images_are_a_column(root: Path) -> None:
    accept(root, fresh=Fresh(source="d:seed=7", n=8, clean=1.0, robust=0.5, low=0.2, high=0.8))
    found = entries(root)["1"].fresh
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.2, 0.8)


def test_a_submission_supersedes_no_row_of_others(root: Path) -> None:
    accept(root)
    found = entries(root)
    assert set(found) == {"0", "1"}
    assert len({entry.id for entry in found.values()}) == 2
    assert all(event.before is None and event.after is None for event in events(read_sources(root).files))
    lines = dumped(ladder_record("2", OURS, created="2026-03-01T00:00:00+00:00"))
    with (root / "records" / "x.jsonl").open("a") as file:
        file.write(f"{lines}\n")
    assert set(entries(root)) == {"1", "2"}  # ours supersedes ours, and leaves theirs alone


def test_a_submission_cannot_take_a_cell_of_others(root: Path) -> None:
    theirs = ladder_record("0", THEIRS, created=LATER)
    made = Submission("thief", "f", PAPER, "", (theirs,), {"0": outcome("0", THEIRS)})
    submission.write(root / "submissions" / "thief.json", made)
    with pytest.raises(DataError, match=r"thief\.json: cell 0 is there already"):
        read_sources(root)


def handed_in(root: Path, labels: int = 0) -> Path:
    """Evidence against our row: its images are answered wrong."""
    answers = outcome("0", [False] * 8)
    answers = replace(answers, labels=answers.labels + labels)
    file = root / "evidence" / "e.json"
    evidence.write(file, evidence.Evidence("e", "0", "sharper", PAPER, "0" * 64, answers, answers))
    return file


def test_evidence_lowers_a_row_once_it_was_scored_here_again(root: Path) -> None:
    file = handed_in(root)
    assert entries(root)["0"].lowered == ()
    verified.add(root / verified.VERIFIED, {"evidence/e": word("evidence/e", digest_of_file(file))})
    worst = entries(root)["0"].worst
    assert worst is not None
    assert worst.value == 0.0
    file.write_text(file.read_text().replace("sharper", "sharpest"))
    assert entries(root)["0"].lowered == ()


def test_evidence_with_other_labels_than_the_data_set_is_refused(root: Path) -> None:
    handed_in(root, labels=1)
    with pytest.raises(DataError, match=r"e\.json: the label of image 0 is not known here to be 1"):
        read_sources(root)
