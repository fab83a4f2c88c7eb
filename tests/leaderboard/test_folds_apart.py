"""Folds that are missing, failed, or were measured in different ways: no row with a rank."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers.folds import SAFE, answers, edited, only, system
from helpers.records import ladder_record, plain

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.ranking.attacks import attack_boards
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.render.columns import BY_NAME
from robustbench_med.leaderboard.sources.submission import Submission, review
from robustbench_med.leaderboard.sources.verified import Word
from robustbench_med.records.record import Record
from robustbench_med.reproduction.plausibility import fold_objections


@pytest.mark.parametrize("missing", [0, 2])
def test_without_a_fold_there_is_no_rank(missing: int) -> None:
    records, outcomes = system()
    board, entry = only([record for record in records if not record.cell_id.startswith(f"f{missing}")], outcomes)
    assert entry.why_not == f"incomplete: of 3 folds, fold {missing} was not measured"
    assert (board.sections, board.unranked, entry.rank) == ((), (entry,), None)
    assert entry.images == 24 - len(SAFE[missing])
    assert BY_NAME["images"].text(entry) == f"{entry.images}/{entry.patients} in 2 of 3 folds"


def test_a_fold_that_failed_or_lacks_its_images_gives_no_rank() -> None:
    records, outcomes = system()
    failed = records[1].model_copy(update={"status": "failed", "reason": "out of memory"})
    _, entry = only([records[0], failed, records[2]], outcomes)
    assert not entry.ranked
    assert "fold 1: out of memory" in entry.why_not
    assert entry.worst is None
    del outcomes[records[1].cell_id]
    _, entry = only(records, outcomes)
    assert entry.why_not == "folds cannot be pooled: per-image results of fold 1 are missing"


def test_what_is_wrong_with_one_fold_is_wrong_with_the_row() -> None:
    records, outcomes = system()
    off = records[1].model_copy(update={"diagnostics": records[1].diagnostics.model_copy(update={"level": "off"})})
    flagged = records[2].diagnostics.model_copy(update={"flags": ["loss-flat"]})
    _, entry = only([records[0], off, records[2].model_copy(update={"diagnostics": flagged})], outcomes)
    assert entry.why_not == "no controls were run beside the attacks (--diagnostics off)"
    assert [mark.flag for mark in entry.marks] == ["loss-flat"]


def test_folds_measured_with_an_earlier_revision_are_listed_as_such() -> None:
    records, outcomes = system()
    old = [each.model_copy(update={"attack": each.attack.model_copy(update={"revision": 0})}) for each in records]
    _, entry = only(old, outcomes)
    assert entry.earlier
    assert not entry.ranked


def test_a_single_split_and_other_folds_have_boards_of_their_own() -> None:
    records, outcomes = system()
    five, more = system([[True] * 4] * 5)
    five = [each.model_copy(update={"cell_id": f"five{each.cell_id}"}) for each in five]
    more = {f"five{cell}": each for cell, each in more.items()}
    pooled = [
        each.model_copy(
            update={
                "dataset": each.dataset.model_copy(
                    update={
                        "fold": each.dataset.fold.model_copy(update={"pool": "other"}) if each.dataset.fold else None
                    }
                )
            }
        )
        for each in five
    ]
    found = boards([*records, *pooled, ladder_record("plain")], outcomes | more)
    assert sorted((board.digest, next(board.entries).folds) for board in found) == [
        ("abc", 0),
        ("other", 5),
        ("pool", 3),
    ]


UNLIKE: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "noise draws": (("draws",), 10),
    "revisions of the data set": (("dataset", "revision"), 2),
    "parameters or revisions of the defense": (("defense", "parts", "model"), {"name": "resnet", "revision": 2}),
    "attacks": (("attack", "rungs"), [{"access": "oblivious", "name": "fgsm", "params_passed": {}, "revision": 2}]),
    "options of the attack": (("attack", "asked"), {"access": "ladder", "evasion": "soft"}),
    "surrogates": (("surrogate",), {"name": "other"}),
}


@pytest.mark.parametrize("what", UNLIKE)
def test_folds_that_were_measured_in_different_ways_are_no_row(what: str) -> None:
    path, value = UNLIKE[what]
    records, outcomes = system()
    if what == "attacks":  # of no ladder, but for this one the same
        records = [edited(record, *path, value=[value[0] | {"revision": 1}]) for record in records]
    _, entry = only([*records[:2], edited(records[2], *path, value=value)], outcomes)
    assert f"folds cannot be pooled: fold 2 was measured with other {what} than fold 0" in entry.why_not
    assert not entry.ranked


def test_a_patient_is_tested_in_one_fold_only() -> None:
    records, outcomes = system()
    cell = records[2].cell_id
    outcomes[cell] = replace(outcomes[cell], patients=("0-0", *outcomes[cell].patients[1:]))
    _, entry = only(records, outcomes)
    assert entry.why_not == "folds cannot be pooled: a patient of fold 0 is tested again in fold 2"


@pytest.mark.parametrize("path", [("eps",), ("limit",), ("seed",), ("of",), ("pool",), ("budget",)])
def test_folds_of_other_questions_do_not_fill_a_gap(path: tuple[str]) -> None:
    change: dict[str, tuple[tuple[str | int, ...], Any]] = {
        "eps": (("threat", "eps"), 8 / 255),
        "limit": (("limit",), 4),
        "seed": (("defense", "weights", "seed"), 1),
        "of": (("dataset", "fold", "of"), 5),
        "pool": (("dataset", "fold", "pool"), "other"),
        "budget": (("budget",), {"gradients": 5}),
    }
    records, outcomes = system()
    where, value = change[path[0]]
    found = boards([*records[:2], edited(records[2], *where, value=value)], outcomes)
    entries = [entry for board in found for entry in board.entries]
    assert not any(entry.ranked for entry in entries)
    assert all("incomplete" in entry.why_not for entry in entries)


def test_words_of_maintainers_say_no_more_than_of_the_weakest_fold() -> None:
    records, outcomes = system()
    facts = {"digest": "0" * 64, "by": "A", "date": "2026-01-01"}
    said = {record.cell_id: Word(of=record.cell_id, verdict="identical", **facts) for record in records}
    cell = records[2].cell_id
    said[cell] = Word(of=cell, verdict="within", why="another GPU", **(facts | {"by": "B", "date": "2026-02-01"}))
    owners = {record.cell_id: "s" for record in records}
    (board,) = boards(records, outcomes, owners=owners, words=said)
    (entry,) = board.entries
    assert entry.ranked
    assert entry.verified == "within, A, B: another GPU"
    del said[cell]
    (board,) = boards(records, outcomes, owners=owners, words=said)
    assert not next(board.entries).ranked


def test_attacks_on_different_folds_are_refused() -> None:
    found, outcomes = [], {}
    for attack, gone in (("apgd", 0), ("pgd", 1)):
        for name in ("one", "two"):
            own = [True] * 4
            for record in system([own] * 3, name)[0]:
                if record.dataset.fold is None or record.dataset.fold.number == gone:
                    continue
                cell = f"{attack}{record.cell_id}"
                made = plain(cell, own, attack=attack).model_copy(
                    update={
                        "dataset": record.dataset,
                        "defense": record.defense,
                        "budget": record.budget.model_copy(update={"gradients": 10}),
                    }
                )
                found.append(made)
                outcomes[cell] = replace(answers(record, own), cell_id=cell)
    with pytest.raises(DataError, match="incomplete: of 3 folds, fold 0 was not measured"):
        attack_boards(found, outcomes)


def test_what_one_fold_trained_is_not_tested_on_another() -> None:
    records, outcomes = system()
    strategy = {"name": "fedavg", "params": {}, "revision": 1}
    records = [edited(record, "defense", "parts", "strategy", value=strategy) for record in records]
    assert only(records, outcomes)[1].ranked
    records[2] = edited(records[2], "defense", "weights", "digest", value=records[0].defense.weights.digest)
    _, entry = only(records, outcomes)
    assert "fold 2 has the weights of fold 0, trained on its patients" in entry.why_not


def test_folds_that_are_handed_in_make_a_row() -> None:
    records, outcomes = system()

    def against(*given: Record) -> list[str]:
        return list(fold_objections(Submission("f", "f", Paper("P", "https://example.org"), "", given, outcomes)))

    assert against(*records) == []
    assert against(*records[:2]) == [f"cell {records[0].cell_id}: incomplete: of 3 folds, fold 2 was not measured"]
    other = edited(records[2], "defense", "weights", "seed", value=1)
    assert len(against(*records[:2], other)) == 2


def test_a_fold_that_is_handed_in_twice_is_named() -> None:
    records, outcomes = system()
    again = edited(edited(records[0], "cell_id", value="ff"), "created", value="2026-12-01T00:00:00+00:00")
    notes = review(Submission("f", "f", Paper("P", "https://example.org"), "", (*records, again), outcomes), {}).notes
    assert f"cell {records[0].cell_id} is superseded by cell ff, of the same training seed and attacks" in notes
