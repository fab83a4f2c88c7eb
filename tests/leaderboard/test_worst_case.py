"""The worst case of a row: every known attack, chosen on some draws and scored on others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.records import ladder_record, outcome, plain

from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record

N = 40


def drawn(cell: str, share: float, seed: int, draws: int = 4, n: int = N) -> ImageResults:
    """Answers of a system with noise: each draw withstands the attack with this probability."""
    made = outcome(cell, [True] * n)
    answers = (np.random.default_rng(seed).random((draws, n)) >= share).astype(np.int8)
    return replace(made, clean=np.repeat(made.clean, draws, 0), attacked=answers)


def noisy(record: Record, found: ImageResults) -> Record:
    figures = {"clean_accuracy": 1.0, "robust_accuracy": float(found.robust.mean()), "robust_any_of_n": 0.1}
    return record.model_copy(update={"metrics": figures, "intervals": {}, "draws": len(found.attacked)})


def only(records: list[Record], outcomes: dict[str, ImageResults]) -> Entry:
    (board,) = boards(records, outcomes)
    (entry,) = board.entries
    return entry


def test_chance_is_not_counted_as_success() -> None:
    """Ten equal attacks on a system with noise: the lowest share of few draws would be far below the truth."""
    outcomes = {str(k): drawn(str(k), 0.5, k) for k in range(10)}
    records = [noisy(ladder_record(k, [True] * N, limit=None), found) for k, found in outcomes.items()]
    records = [record.model_copy(update={"seed": k}) for k, record in enumerate(records)]
    entry = only(records, outcomes)
    lowest = np.mean(np.min([found.robust for found in outcomes.values()], axis=0))
    assert entry.worst is not None
    assert lowest < 0.2
    assert 0.4 < entry.worst.value < 0.6


def test_a_better_attack_on_some_images_lowers_a_system_with_noise() -> None:
    weak, strong = drawn("0", 1.0, 0), drawn("1", 1.0, 1)
    attacked = weak.attacked.copy()
    attacked[:, : N // 2] = 1
    strong = replace(strong, attacked=attacked)
    records = [noisy(ladder_record("0", [True] * N), weak), noisy(plain("1", [True] * N, "full"), strong)]
    entry = only(records, {"0": weak, "1": strong})
    assert entry.worst is not None
    assert (entry.worst.value, entry.lowered) == (0.5, (f"full apgd: {N // 2} more",))


def test_weak_attacks_cannot_raise_a_row() -> None:
    own = drawn("0", 0.5, 0)
    flood = {str(k): drawn(str(k), 0.9, k) for k in range(1, 20)}
    records = [noisy(ladder_record("0", [True] * N), own)]
    records += [noisy(plain(k, [True] * N, "full", seed=0), found) for k, found in flood.items()]
    records = [record.model_copy(update={"seed": k}) for k, record in enumerate(records)]
    entry = only(records, {"0": own} | flood)
    assert entry.worst is not None
    assert entry.worst.value <= own.robust.mean() + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_case_is_never_above_the_claim_on_the_same_images(seed: int) -> None:
    ladder, claim = drawn("0", 0.52, seed), drawn("1", 0.5, seed + 100)
    records = [noisy(ladder_record("0", [True] * N), ladder), noisy(plain("1", [True] * N), claim)]
    entry = only(records, {"0": ladder, "1": claim})
    assert entry.worst is not None
    assert entry.claim is not None
    assert entry.claim.value == pytest.approx(claim.robust.mean())
    assert entry.worst.value <= entry.claim.value
    assert entry.drop == entry.claim.value - entry.worst.value


def test_a_claim_without_answers_on_the_same_images_bounds_the_worst_case() -> None:
    safe = [True] * 12 + [False] * 4
    entry = only([ladder_record("0", safe), plain("1", [True] * 8 + [False] * 8)], {})
    assert entry.worst is not None
    assert (entry.worst.value, entry.drop) == (0.5, 0.0)


def abstaining(cell: str, attacked: list[int], clean: list[int]) -> ImageResults:
    labels = np.zeros(len(attacked), dtype=np.int8)
    return ImageResults(
        cell,
        tuple(range(len(attacked))),
        labels,
        np.array([clean], dtype=np.int8),
        np.array([attacked], dtype=np.int8),
    )


def test_a_withheld_answer_counts_where_the_clean_image_is_answered_right() -> None:
    found = abstaining("0", [-1, -1, 0, 1], [0, -1, 0, 0])
    record = ladder_record("0", [True, True, True, False])
    entry = only([record.model_copy(update={"metrics": record.metrics | {"clean_accuracy": 0.75}})], {"0": found})
    assert entry.worst is not None
    assert entry.answered is not None
    assert (entry.worst.value, entry.answered.value) == (0.5, 0.25)


def test_withholding_everything_earns_nothing() -> None:
    held = abstaining("0", [-1] * 8, [-1] * 8)
    metrics = {"clean_accuracy": 0.0, "robust_accuracy": 1.0}
    record = ladder_record("0", [True] * 8, metrics=metrics, intervals={})
    entry = only([record], {"0": held})
    assert entry.worst is not None
    assert entry.answered is not None
    assert (entry.worst.value, entry.answered.value) == (0.0, 0.0)


def with_owners(found: ImageResults, of_patient: int = 4) -> ImageResults:
    n = len(found.index)
    patients = tuple(f"p{at // of_patient}" for at in range(n))
    return replace(found, patients=patients, sites=tuple("a" if at < n // 4 else "b" for at in range(n)))


def test_intervals_count_patients_and_clients_come_from_the_worst_case() -> None:
    safe = [True] * 20 + [False] * 20
    known = with_owners(outcome("0", safe))
    entry, alone = only([ladder_record("0", safe)], {"0": known}), only([ladder_record("0", safe)], {})
    assert (entry.patients, alone.patients) == (10, None)
    assert entry.worst is not None
    assert alone.worst is not None
    wide, narrow = entry.worst.interval, alone.worst.interval
    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    counts = {client: (count.images, count.patients, count.few) for client, count in entry.client_images.items()}
    assert counts == {"a": (10, 3, True), "b": (30, 8, False)}
    assert entry.worst_client == "b"
    assert entry.worst_client_accuracy is not None
    assert entry.worst_client_accuracy.value == pytest.approx(1 / 3)


def test_a_row_that_another_record_lowers_has_its_figures_from_the_same_answers() -> None:
    safe, worse = [True] * 16, [False] * 8 + [True] * 8
    own, other = with_owners(outcome("0", safe)), with_owners(outcome("1", worse))
    labels = np.array([1] * 8 + [0] * 8, dtype=np.int8)
    both = {
        each.cell_id: replace(
            each, labels=labels, clean=labels[None], attacked=(labels ^ each.attacked).astype(np.int8)
        )
        for each in (own, other)
    }
    data: dict[str, Any] = ladder_record().dataset.model_dump() | {"lesion_class": 1}
    entry = only([ladder_record("0", safe, dataset=data), plain("1", worse, "full", dataset=data)], both)
    assert entry.worst is not None
    assert entry.sensitivity is not None
    assert entry.specificity is not None
    assert entry.hidden_lesion is not None
    assert (entry.worst.value, entry.sensitivity.value, entry.specificity.value) == (0.5, 0.0, 1.0)
    assert entry.hidden_lesion.value == 1.0
    assert {client: figures["worst"].value for client, figures in entry.per_client.items()} == {"a": 0.0, "b": 8 / 12}


@pytest.mark.parametrize(("gates", "worst"), [((3, 3), 0.5), ((3, 1), 1.0)], ids=["same", "other"])
def test_answers_behind_another_rule_for_the_threshold_are_those_of_another_system(
    gates: tuple[int, int], worst: float
) -> None:
    safe, broken = [True] * 16, [False] * 8 + [True] * 8
    made = [ladder_record("0", safe), plain("1", broken, "full")]
    parts = [{"detector": {"name": "mae", "params": {}}, "gate_revision": gate} for gate in gates]
    records = [
        type(record).model_validate(record.model_dump() | {"defense": record.defense.model_dump() | {"parts": part}})
        for record, part in zip(made, parts, strict=True)
    ]
    (board,) = boards(records, {"0": outcome("0", safe), "1": outcome("1", broken)})
    entry = next(each for each in board.entries if each.ladder)
    assert entry.worst is not None
    assert entry.worst.value == worst
