"""Folds of a cross-validation: one row of all patients, or none with a rank."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.folds import SAFE, answers, only, system
from helpers.records import ladder_record, outcome, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.ranking.attacks import attack_boards
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.render.data_formats import to_csv, to_json
from robustbench_med.leaderboard.render.page.site import pages
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.statistics.intervals import share_interval


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


@pytest.mark.parametrize("other_weights", [False, True])
def test_an_attack_on_some_folds_counts_on_their_images(other_weights: bool) -> None:
    """Whether the other folds were not attacked, or with other weights: what broke an image here has broken it."""
    records, outcomes = system()
    found = []
    for at, record in enumerate(records):
        broken = [False] * len(SAFE[at])
        made = plain(f"other{record.cell_id}", broken, attack="fab").model_copy(
            update={"dataset": record.dataset, "defense": record.defense}
        )
        outcomes[made.cell_id] = replace(answers(record, broken), cell_id=made.cell_id)
        if at == 1:
            found.append(made)
        elif other_weights:
            weights = made.defense.weights.model_copy(update={"digest": f"again{at}"})
            defense = made.defense.model_copy(update={"weights": weights})
            found.append(made.model_copy(update={"defense": defense}))
    _, entry = only([*records, *found], outcomes)
    assert entry.worst is not None
    assert (entry.ranked, entry.worst.value) == (True, pytest.approx(4 / 24))  # the six of fold 1 are lost
    assert entry.lowered == ("oblivious fab: 6 more",)
