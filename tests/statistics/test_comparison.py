"""Comparisons of clustered answers: the size and power of the test, references, and the correction."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustbench_med.statistics.comparison import holm, p_value, p_value_of_intervals, p_values


def differences(
    chance: np.random.Generator, patients: int, images: int, one: float, two: float
) -> npt.NDArray[np.float64]:
    """Right answers of one system minus those of another, by patient; answers of a patient are alike."""
    easy = chance.random(patients)
    right = [chance.binomial(images, np.clip(easy * 2 * share, 0, 1)) for share in (one, two)]
    found: npt.NDArray[np.float64] = (right[0] - right[1]).astype(float)
    return found


@pytest.mark.parametrize(("patients", "images"), [(8, 8), (16, 4), (80, 4)])
def test_equal_systems_are_rarely_called_different(patients: int, images: int) -> None:
    chance = np.random.default_rng(1)
    rejected = [p_value(differences(chance, patients, images, 0.4, 0.4)) <= 0.05 for _ in range(1000)]
    assert np.mean(rejected) <= 0.065


def test_a_test_that_ignores_patients_calls_equal_systems_different() -> None:
    """Whole patients flip: 16 patients of 4 images, each right for one of two equal systems."""
    chance, naive, clustered = np.random.default_rng(2), 0, 0
    for _ in range(300):
        signs = chance.choice([-1.0, 1.0], 16)
        naive += p_value(np.repeat(signs, 4)) <= 0.05
        clustered += p_value(4 * signs) <= 0.05
    assert clustered / 300 <= 0.06
    assert naive / 300 > 0.25


def test_a_real_difference_is_found() -> None:
    chance = np.random.default_rng(3)
    found = [p_value(differences(chance, 40, 4, 0.6, 0.3)) <= 0.05 for _ in range(200)]
    assert np.mean(found) > 0.9


@given(wins=st.integers(0, 24), losses=st.integers(0, 24))
def test_one_image_of_each_patient_gives_the_exact_test_of_mcnemar(wins: int, losses: int) -> None:
    if wins + losses <= 24:
        expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert p_value(np.array([1.0] * wins + [-1.0] * losses)) == pytest.approx(expected)


@given(sizes=st.lists(st.integers(-4, 4), min_size=1, max_size=10))
def test_few_patients_are_tested_by_every_pattern_of_signs(sizes: list[int]) -> None:
    total = abs(sum(sizes))
    patterns = itertools.product(*[(-abs(size), abs(size)) for size in sizes])
    sums = [abs(sum(pattern)) for pattern in patterns]
    expected = np.mean([each >= total for each in sums]) if total else 1.0
    assert p_value(np.array(sizes) / 3) == pytest.approx(expected)  # shares of draws are no whole numbers


def test_many_patients_are_tested_by_the_statistic_of_durkalski() -> None:
    found = differences(np.random.default_rng(4), 80, 4, 0.5, 0.42)
    statistic = found.sum() ** 2 / (found**2).sum()
    assert p_value(found) == pytest.approx(stats.chi2.sf(statistic, 1))
    flips = np.random.default_rng(5).choice([-1.0, 1.0], (200_000, 80)) @ np.abs(found)
    assert p_value(found) == pytest.approx(np.mean(np.abs(flips) >= abs(found.sum())), abs=0.02)


@given(sizes=st.lists(st.floats(-4, 4), max_size=40))
def test_the_test_is_symmetric_and_a_probability(sizes: list[float]) -> None:
    found = p_value(np.array(sizes))
    assert 0 <= found <= 1
    assert found == pytest.approx(p_value(-np.array(sizes)))


def test_all_pairs_of_a_table_are_tested_as_each_alone_where_it_matters() -> None:
    chance = np.random.default_rng(7)
    sums = chance.integers(0, 5, (12, 30)).astype(float)
    sums[1], sums[2] = sums[0], np.minimum(sums[0] + 1, 4)
    found = p_values(sums)
    for a, b in itertools.combinations(range(12), 2):
        alone = p_value(sums[a] - sums[b])
        assert found[a, b] == found[b, a]
        assert found[a, b] == pytest.approx(alone) or (found[a, b] == 1 and alone > 0.1)


def test_intervals_of_other_images_are_compared_as_unpaired() -> None:
    assert p_value_of_intervals((0.9, 0.8, 0.95), (0.3, 0.2, 0.4)) < 1e-6
    assert p_value_of_intervals((0.5, 0.4, 0.6), (0.45, 0.35, 0.55)) > 0.3
    assert p_value_of_intervals((0.5, 0.4, 0.6), (0.5, 0.4, 0.6)) == 1.0


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_rejects_what_its_steps_allow(p_values: list[float]) -> None:
    found = holm(np.array(p_values))
    expected, going = [False] * len(p_values), True
    for step, at in enumerate(np.argsort(p_values, kind="stable").tolist()):
        going = going and p_values[at] <= 0.05 / (len(p_values) - step)
        expected[at] = going
    assert found.tolist() == expected


def test_of_many_equal_systems_a_table_rarely_calls_any_two_different() -> None:
    chance, wrong, single = np.random.default_rng(6), 0, 0
    for _ in range(100):
        easy = chance.random(16)
        right = chance.binomial(4, easy[None], (8, 16)).astype(float)
        found = np.array([p_value(right[a] - right[b]) for a, b in itertools.combinations(range(8), 2)])
        wrong += holm(found).any()
        single += (found <= 0.05).any()
    assert wrong <= 8
    assert single > 25
