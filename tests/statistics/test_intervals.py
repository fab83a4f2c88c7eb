"""Intervals of clustered shares: they cover, they agree with references, and they make sense at the edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustbench_med.interfaces.rate import Rate, interval
from robustbench_med.statistics.intervals import clustered, of_strata, share_interval, wilson


def answers(
    chance: np.random.Generator, patients: int, images: int, share: float, correlation: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Right answers of each patient and its number of images: beta-binomial, a mean of ``images`` each."""
    spread = (1 - correlation) / correlation
    own = chance.beta(share * spread, (1 - share) * spread, patients)
    counts = chance.integers(1, 2 * images, patients)
    return chance.binomial(counts, own), counts


@pytest.mark.parametrize("share", [0.02, 0.12, 0.5, 0.9])
@pytest.mark.parametrize("correlation", [0.05, 0.43, 0.84])
@pytest.mark.parametrize(("patients", "images"), [(4, 16), (16, 4), (80, 4)])
def test_the_interval_covers_the_share_of_clustered_images(
    patients: int, images: int, correlation: float, share: float
) -> None:
    chance = np.random.default_rng(0)
    found = [clustered(*answers(chance, patients, images, share, correlation)) for _ in range(1000)]
    assert np.mean([each.low <= share <= each.high for each in found]) >= 0.94


def test_treating_images_as_independent_covers_far_too_rarely() -> None:
    chance, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        hits, images = answers(chance, 16, 4, 0.12, 0.84)
        low, high = wilson(hits.sum() / images.sum(), images.sum())
        covered += low <= 0.12 <= high
    assert covered < 850


@given(hits=st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_one_image_of_each_patient_gives_the_interval_of_wilson(hits: list[int]) -> None:
    expected = stats.binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    found = share_interval(hits, list(range(len(hits))))
    assert found.bounds == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.images, found.patients, found.effective) == (len(hits), len(hits), len(hits))


@given(
    counts=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_it_holds_the_share_and_ignores_order(counts: list[tuple[int, int]], order) -> None:  # type: ignore[no-untyped-def]
    pairs = [(min(hits, n), n) for hits, n in counts]
    found = clustered(*zip(*pairs, strict=True))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.effective <= found.images
    order.shuffle(pairs)
    assert clustered(*zip(*pairs, strict=True)).bounds == pytest.approx(found.bounds)
    mirrored = clustered([n - hits for hits, n in pairs], [n for _, n in pairs])
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx(found.bounds)


@pytest.mark.parametrize("all_right", [True, False])
def test_where_all_answers_are_alike_the_patients_count_and_not_the_images(all_right: bool) -> None:
    found = share_interval([float(all_right)] * 64, [at // 4 for at in range(64)])
    few = wilson(float(all_right), 16 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 15)) ** 2)
    assert found.bounds == pytest.approx(few)
    assert max(found.high - found.value, found.value - found.low) > 0.18  # of 64 independent images it would be 0.06


def test_images_that_are_answered_alike_say_as_much_as_their_patients() -> None:
    shares = np.repeat([1.0, 0.0] * 20, 4)
    found = share_interval(shares, np.repeat(np.arange(40), 4))
    assert 30 < found.effective < 41


def test_one_patient_says_nothing_and_no_image_too() -> None:
    assert clustered([3], [4]).bounds == (0.0, 1.0)
    assert clustered([], []).bounds == (0.0, 1.0)


def test_a_rate_with_patients_has_their_interval() -> None:
    shares, patients = [1.0, 1.0, 0.5, 0.0], ["a", "a", "b", "b"]
    rate = Rate.of(shares, patients)
    assert (rate.hits, rate.n, rate.patients) == (2.5, 4, ((2.0, 2), (0.5, 2)))
    assert interval(rate) == share_interval(shares, patients).bounds
    assert interval(Rate(2.5, 4)) == wilson(0.625, 4)


def test_the_interval_of_strata_covers_the_share_of_all_images() -> None:
    dice, sizes, truth = np.random.default_rng(0), (20, 40, 60), (0.3, 0.6, 0.9)
    share = sum(n * p for n, p in zip(sizes, truth, strict=True)) / sum(sizes)
    covered, trials = 0, 2000
    for _ in range(trials):
        found = [dice.binomial(n, p) / n for n, p in zip(sizes, truth, strict=True)]
        low, high = of_strata(found, [wilson(each, n) for each, n in zip(found, sizes, strict=True)], sizes)
        covered += low <= share <= high
    assert covered / trials == pytest.approx(0.95, abs=0.02)


def test_one_stratum_has_its_own_interval() -> None:
    assert of_strata([0.5], [(0.25, 0.75)], [8]) == (0.25, 0.75)
