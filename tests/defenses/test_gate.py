"""The threshold of a detector: its rank, what it promises, and what is said where there are too few images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustbench_med.defenses.gates import CAP, conformal_rank, fix_gate, lowered, too_few


@pytest.mark.parametrize(
    ("images", "fpr", "rank"),
    [(19, 0.05, 19), (20, 0.05, 20), (99, 0.01, 99), (200, 0.05, 191), (9, 0.1, 9), (3, 0.5, 2)],
)
def test_the_threshold_is_the_score_of_the_conformal_rank(images: int, fpr: float, rank: int) -> None:
    scores = torch.randperm(images, generator=torch.Generator().manual_seed(0)) + 1.0
    gate = fix_gate(scores, fpr)
    assert conformal_rank(images, fpr) == rank
    assert (gate.threshold, gate.low, gate.high, gate.images) == (rank, 1.0, images, images)
    assert too_few("a", gate, fpr) == ""


@pytest.mark.parametrize(("images", "fpr", "needed"), [(18, 0.05, 19), (98, 0.01, 99), (1, 0.4, 2)])
def test_too_few_images_are_said_and_the_highest_score_is_taken(images: int, fpr: float, needed: int) -> None:
    gate = fix_gate(torch.arange(images) / 10, fpr)
    assert gate.threshold == gate.high
    assert f"{images} calibration images are too few" in too_few("hospital-1", gate, fpr)
    assert f"needs {needed};" in too_few("hospital-1", gate, fpr)


@pytest.mark.parametrize("images", [19, 25, 60])
def test_a_new_clean_image_is_flagged_with_at_most_the_share_that_was_asked(images: int) -> None:
    chance = np.random.default_rng(images)
    flagged = []
    for _ in range(2000):
        scores = torch.from_numpy(chance.random(images + 1))
        flagged.append(float(scores[-1]) > fix_gate(scores[:-1], 0.05).threshold)
    assert np.mean(flagged) <= 0.05 + 0.012


@pytest.mark.parametrize(("reach", "threshold"), [(None, 19.0), (100.0, 19.0), (10.0, CAP * 10.0)])
def test_a_threshold_stays_within_reach_of_images_at_the_decision_boundary(
    reach: float | None, threshold: float
) -> None:
    gate = fix_gate(torch.arange(1, 20).float(), 0.05, reach)
    assert gate.threshold == threshold
    assert gate.uncapped == (19.0 if threshold < 19 else None)
    said = lowered("hospital-3", gate, 0.05)
    assert bool(said) == (threshold < 19)
    if said:
        assert "hospital-3: the threshold was lowered from 19 to 5," in said
