"""Folds of a cross-validation: one row of all patients, or none with a rank."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.records import ladder_record, outcome, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry, Paper
from robustbench_med.leaderboard.ranking.attacks import attack_boards
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.render.data_formats import to_csv, to_json
from robustbench_med.leaderboard.render.page.site import pages
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.verified import Word
from robustbench_med.records.record import Record, dumped, parse
from robustbench_med.statistics.intervals import share_interval

#: What is robust in each of three folds.
SAFE = ([True, False] * 4, [True] * 6, [False] * 10)
ASKED = {"partition": None, "unseen_site": [], "client": []}


def fold(number: int, safe: list[bool], name: str = "f", seed: int = 0, of: int = 3, **fields: Any) -> Record:
    """The ladder on one fold, with weights of its own."""
    params = {"folds": str(of), "fold": str(number)}
    made = ladder_record(f"{name}{number}{seed}", safe, name, seed, patients=len(safe) // 2, **fields)
    facts = json.loads(dumped(made))
    facts["dataset"] |= {
        "params_passed": params,
        "digest": f"digest{number}",
        "fold": {"number": number, "of": of, "pool": "pool"},
        "asked": {"dataset": f"d:folds={of},fold={number}", **ASKED},
    }
    facts["attack"]["asked"] = {"access": "ladder"}
    facts["defense"]["weights"]["digest"] = f"w{name}{seed}{number}"
    facts["client_images"] = {client: [len(safe) // 2, len(safe) // 4] for client in "ab"}
    return parse(json.dumps(facts))


def answers(record: Record, safe: list[bool]) -> ImageResults:
    """Two images of each patient; patients of clients a and b in turn."""
    made = outcome(record.cell_id, safe)
    number = record.dataset.fold.number if record.dataset.fold else 0
    people = [row // 2 for row in range(len(safe))]
    return replace(
        made,
        patients=tuple(f"{number}-{person}" for person in people),
        sites=tuple("ab"[person % 2] for person in people),
    )


def system(
    safe: Sequence[list[bool]] = SAFE, name: str = "f", seed: int = 0
) -> tuple[list[Record], dict[str, ImageResults]]:
    records = [fold(number, each, name, seed, len(safe)) for number, each in enumerate(safe)]
    return records, {record.cell_id: answers(record, own) for record, own in zip(records, safe, strict=True)}


def only(records: Sequence[Record], outcomes: dict[str, ImageResults]) -> tuple[Board, Entry]:
    (board,) = boards(records, outcomes)
    (entry,) = board.entries
    return board, entry


def test_the_images_of_all_folds_are_pooled() -> None:
    records, outcomes = system()
    board, entry = only(records, outcomes)
    pooled = [each for own in SAFE for each in own]
    assert entry.worst is not None
    assert entry.worst.value == pytest.approx(np.mean(pooled))  # not the mean of the folds
    people = [who for record in records for who in outcomes[record.cell_id].patients]
    assert entry.worst.interval == pytest.approx(share_interval(pooled, people).bounds)
    assert (entry.images, entry.patients, entry.folds) == (24, 12, 3)
    assert (entry.ranked, entry.rank, entry.why_not) == (True, 1, "")
    assert (board.digest, board.options) == ("pool", "folds=3")
    assert board.title == "d:folds=3 (synthetic), Linf 4/255"
    assert [(rung.attacked, rung.broken) for rung in entry.rungs if not rung.reason] == [(24, 14)] * 3
    assert [rung.withstanding for rung in entry.rungs if not rung.reason] == pytest.approx([10 / 24] * 3)
    assert (entry.gradients, entry.queries) == pytest.approx((40, 95))


def test_clients_are_pooled_too() -> None:
    records, outcomes = system()
    _, entry = only(records, outcomes)
    sites = [site for record in records for site in outcomes[record.cell_id].sites]
    pooled = np.array([each for own in SAFE for each in own])
    for client in "ab":
        own = pooled[[site == client for site in sites]]
        worst = entry.per_client[client]["worst"]
        assert worst is not None
        assert worst.value == pytest.approx(own.mean())
        assert entry.client_images[client].images == len(own)
    assert entry.worst_client == min("ab", key=lambda client: entry.per_client[client]["worst"].value)


@settings(max_examples=20, deadline=None)
@given(safe=st.lists(st.lists(st.booleans(), min_size=4, max_size=8), min_size=3, max_size=6), data=st.data())
def test_folds_give_the_figures_of_one_split_with_all_their_images(safe: list[list[bool]], data: st.DataObject) -> None:
    records, outcomes = system(safe)
    whole = ladder_record("whole", [each for own in safe for each in own])
    parts = [outcomes[record.cell_id] for record in records]
    one = replace(
        outcome("whole", [each for own in safe for each in own]),
        patients=tuple(who for each in parts for who in each.patients),
        sites=tuple(site for each in parts for site in each.sites),
    )
    _, expected = only([whole], {"whole": one})
    _, found = only(data.draw(st.permutations(records)), outcomes)
    for name in ("clean", "worst", "images"):
        assert getattr(found, name) == getattr(expected, name)
    for client, figures in expected.per_client.items():
        assert found.per_client[client]["worst"] == figures["worst"]


@pytest.mark.parametrize("missing", [0, 2])
def test_without_a_fold_there_is_no_rank(missing: int) -> None:
    records, outcomes = system()
    board, entry = only([record for record in records if not record.cell_id.startswith(f"f{missing}")], outcomes)
    assert entry.why_not == f"incomplete: of 3 folds, fold {missing} was not measured"
    assert (board.sections, board.unranked, entry.rank) == ((), (entry,), None)
    assert entry.images == 24 - len(SAFE[missing])


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


def test_of_a_fold_that_was_measured_twice_the_newest_counts() -> None:
    records, outcomes = system()
    again = records[0].model_copy(update={"cell_id": "again", "created": "2026-05-01T00:00"})
    outcomes["again"] = replace(answers(again, SAFE[0]), attacked=np.ones((1, 8), dtype=np.int8))
    again = again.model_copy(update={"metrics": {**again.metrics, "robust_accuracy": 0.0}, "intervals": {}})
    _, entry = only([again, *records], outcomes)
    assert entry.worst is not None
    assert entry.worst.value == pytest.approx(6 / 24)
    assert entry.date == "2026-05-01"


def test_seeds_of_training_are_still_averaged() -> None:
    first, one = system()
    other = [[not each for each in own] for own in SAFE]
    second, two = system(other, seed=1)
    _, entry = only([*first, *second], one | two)
    assert entry.train_seeds == (0, 1)
    assert entry.worst is not None
    assert entry.worst.seeds == pytest.approx((10 / 24, 14 / 24))
    # A seed without all folds has no part in the mean, and no rank.
    (board,) = boards([*first, *second[:2]], one | two)
    assert [(entry.train_seeds, entry.ranked) for entry in board.entries] == [((0,), True), ((1,), False)]


def test_rows_are_compared_by_the_patients_of_all_folds() -> None:
    robust, none = [[True] * 20] * 3, [[False] * 20] * 3
    first, one = system(robust, "good")
    second, two = system(none, "bad")
    (board,) = boards([*first, *second], one | two)
    (section,) = board.sections
    assert [(entry.defense, entry.rank, entry.tied) for entry in section.entries] == [("good", 1, 0), ("bad", 2, 0)]
    third, three = system([[True] * 19 + [False]] * 3, "close")
    (board,) = boards([*first, *third], one | three)
    assert [entry.tied for entry in board.sections[0].entries] == [1, 1]


def test_attacks_on_the_same_weights_are_combined_fold_by_fold() -> None:
    records, outcomes = system()
    claims = []
    for record, own in zip(records, SAFE, strict=True):
        cell = f"claim{record.cell_id}"
        claim = plain(cell, own).model_copy(update={"dataset": record.dataset, "defense": record.defense})
        claims.append(claim)
        outcomes[cell] = replace(answers(record, own), cell_id=cell)
    _, entry = only([*records, *claims], outcomes)
    assert entry.claim is not None
    assert entry.claim.value == pytest.approx(10 / 24)
    # With a fold less, or other weights in a fold, it is no claim on this row.
    _, entry = only([*records, *claims[:2]], outcomes)
    assert entry.claim_attack == "apgd:steps=20"  # the ladder's own rung
    assert entry.worst is not None
    assert entry.worst.value == pytest.approx(10 / 24)


def test_evidence_against_a_fold_lowers_the_row() -> None:
    records, outcomes = system()
    broken = replace(answers(records[1], [False] * 6), cell_id=records[1].cell_id)
    told = Evidence("theirs", records[1].cell_id, "an attack", Paper("P"), "0" * 64, broken, broken)
    (board,) = boards(records, outcomes, evidence=[told])
    (entry,) = board.entries
    assert entry.worst is not None
    assert entry.worst.value == pytest.approx(4 / 24)
    assert entry.lowered == ("an attack (P): 6 more",)


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


def test_files_and_pages_name_the_cells_of_every_fold() -> None:
    records, outcomes = system()
    board, entry = only(records, outcomes)
    cells = [record.cell_id for record in records]
    facts = json.loads(to_json([board]))["boards"][0]["sections"][0]["entries"][0]
    assert (facts["records"], facts["folds"], facts["patients"]) == (cells, 3, 12)
    (row,) = csv.DictReader(io.StringIO(to_csv([board])))
    assert (row["records"], row["folds"]) == (" ".join(cells), "3")
    text = dict(pages([board]))[f"entries/{entry.id}.html"]()
    assert "--dataset d:folds=3 " in text
    assert "d:folds=3,fold=0" in text  # weights that can be loaded are those of a fold
    assert "pooled over 3 folds" in text
    assert all(cell in text for cell in cells)


def test_attacks_are_compared_over_all_folds() -> None:
    found, outcomes = [], {}
    for attack, share in (("apgd", 0), ("pgd", 3)):
        for name in ("one", "two"):
            for record, own in zip(*system(name=name)[:1], SAFE, strict=False):
                cell = f"{attack}{record.cell_id}"
                safe = [*([True] * share), *own[share:]]
                made = plain(cell, safe, attack=attack).model_copy(
                    update={
                        "dataset": record.dataset,
                        "defense": record.defense,
                        "budget": record.budget.model_copy(update={"gradients": 10}),
                    }
                )
                found.append(made)
                outcomes[cell] = replace(answers(record, safe), cell_id=cell)
    (board,) = attack_boards(found, outcomes)
    assert board.images == 24
    assert [attack.name for attack in board.attacks] == ["apgd", "pgd"]


def edited(record: Record, *path: str | int, value: Any) -> Record:
    """The record with another value at a place."""
    facts = json.loads(dumped(record))
    place: Any = facts
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return parse(json.dumps(facts))


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


def test_a_fold_measured_twice_counts_once() -> None:
    records, outcomes = system()
    again = records[0].model_copy(update={"cell_id": "again", "created": "2027-01-01T00:00"})
    outcomes["again"] = replace(outcomes[records[0].cell_id], cell_id="again")
    _, entry = only([*records, again], outcomes)
    assert (entry.images, entry.patients, entry.ranked) == (24, 12, True)


def test_a_client_that_one_fold_lacks_is_still_the_worst() -> None:
    """It has images in two of three folds."""
    records, outcomes = system()
    for at, record in enumerate(records[1:], 1):
        cell = record.cell_id
        figures = {"a": record.per_client["a"], "c": record.per_client["b"]}
        facts = {"clients": ["a", "c"], "per_client": figures, "worst_client": "c"}
        records[at] = record.model_copy(update=facts)
        outcomes[cell] = replace(outcomes[cell], sites=tuple("ac"[site == "b"] for site in outcomes[cell].sites))
    _, entry = only(records, outcomes)
    pooled = np.array([each for own in SAFE for each in own])
    own = np.array([site for record in records for site in outcomes[record.cell_id].sites])
    for client in "abc":
        assert entry.per_client[client]["worst"].value == pytest.approx(pooled[own == client].mean())
        assert entry.client_images[client].images == (own == client).sum()


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


def test_attacks_on_different_folds_are_not_compared() -> None:
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
    assert attack_boards(found, outcomes) == []
