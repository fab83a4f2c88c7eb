"""Rows that are published cannot contradict themselves: checked on the committed records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from helpers.paths import ROOT

from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.sources.folder import read_sources

SLACK = 1e-6


@cache
def published() -> Sequence[tuple[Board, Entry]]:
    return [(board, entry) for board in read_sources(ROOT / "leaderboard").boards() for entry in board.entries]


def test_the_worst_case_is_never_above_the_claim_and_the_drop_is_their_difference() -> None:
    compared = 0
    for _, entry in published():
        if entry.drop is not None:
            assert entry.worst is not None
            assert entry.claim is not None
            assert entry.worst.value <= entry.claim.value + SLACK, entry.id
            assert entry.drop == pytest.approx(entry.claim.value - entry.worst.value), entry.id
            compared += 1
    assert compared >= 30


def test_sensitivity_and_specificity_are_of_the_answers_of_the_worst_case() -> None:
    """Their mean, weighted by lesions and others, is the worst case; hidden lesions are what sensitivity lacks."""
    compared = 0
    for _, entry in published():
        if not entry.answers or entry.sensitivity is None or entry.specificity is None:
            continue
        assert entry.worst is not None
        sick = float(np.mean(entry.answers[0].labels == 1))
        whole = sick * entry.sensitivity.value + (1 - sick) * entry.specificity.value
        assert whole == pytest.approx(entry.worst.value), entry.id
        if entry.answered is None:
            assert entry.hidden_lesion is not None
            assert entry.hidden_lesion.value == pytest.approx(1 - entry.sensitivity.value), entry.id
        compared += 1
    assert compared >= 30


def test_clients_add_up_to_the_row_and_the_worst_is_the_lowest() -> None:
    compared = 0
    for _, entry in published():
        if not entry.client_images or entry.worst is None or not entry.per_client:
            continue
        images = sum(count.images for count in entry.client_images.values())
        assert images == entry.images, entry.id
        for name, whole in (("worst", entry.worst), ("clean", entry.clean)):
            parts = [
                entry.per_client[client][name].value * count.images for client, count in entry.client_images.items()
            ]
            assert whole is not None
            assert sum(parts) / images == pytest.approx(whole.value, abs=1e-5), entry.id
        if entry.worst_client is not None:
            assert entry.worst_client_accuracy is not None
            lowest = min(figures["worst"].value for figures in entry.per_client.values())
            assert entry.worst_client_accuracy.value == lowest, entry.id
            assert entry.worst_client_accuracy.interval is not None
        compared += 1
    assert compared >= 30


def test_figures_lie_in_their_intervals_and_in_zero_to_one() -> None:
    for _, entry in published():
        for name in ("clean", "worst", "claim", "answered", "sensitivity", "specificity", "worst_client_accuracy"):
            figure = getattr(entry, name)
            if figure is not None:
                assert -SLACK <= figure.value <= 1 + SLACK
                low, high = figure.interval or (figure.value, figure.value)
                assert low - SLACK <= figure.value <= high + SLACK, (entry.id, name)


def test_one_system_has_one_rank_and_every_table_knows_its_patients() -> None:
    for board in {id(board): board for board, _ in published()}.values():
        for section in board.sections:
            deployed = [
                (r.defense.weights.digest, str(r.defense.parts.model_dump(exclude={"fpr"})), r.defense.params_passed)
                for entry in section.entries
                if (r := entry.records[0]).defense.parts.detector is None and r.defense.parts.purifier is None
            ]
            assert len({facts[:2] for facts in deployed}) == len(deployed), section.id
            # Only folders of images, where patients are not known, go without.
            assert section.patients is not None or board.dataset == "imagefolder"


def test_no_row_answers_more_than_it_withstands() -> None:
    held = [entry for _, entry in published() if entry.answered is not None and entry.worst is not None]
    assert held
    for entry in held:
        assert entry.answered.value <= entry.worst.value + SLACK  # type: ignore[union-attr]
