"""Bounds of a probability and the radii that follow from them, against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from robustbench_med.certification.bounds import largest_radius, lower_bound, radius, significant


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.3])
def test_the_lower_bound_is_that_of_clopper_and_pearson(alpha: float) -> None:
    hits = np.array([0, 1, 7, 60, 99, 100])
    test = [binomtest(int(k), 100, alternative="greater").proportion_ci(1 - alpha, "exact").low for k in hits]
    np.testing.assert_allclose(lower_bound(hits, 100, alpha), test, rtol=1e-9)


@pytest.mark.parametrize("p", [0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("n", [5, 50, 500])
def test_the_bound_fails_no_more_often_than_alpha(p: float, n: int) -> None:
    """Summed over all counts, not simulated."""
    hits = np.arange(n + 1)
    for alpha in (0.001, 0.1):
        fails = binom.pmf(hits, n, p)[lower_bound(hits, n, alpha) > p].sum()
        assert fails <= alpha * (1 + 1e-9)


def test_radii_follow_the_bound_and_end_at_one_half() -> None:
    bounds = np.array([0.0, 0.4, 0.5, 0.5000001, 0.9, 0.9999])
    found = radius(bounds, 0.5)
    assert (found[:3] == 0).all()
    np.testing.assert_allclose(found[3:], 0.5 * norm.ppf(bounds[3:]))
    assert largest_radius(1000, 0.001, 0.25) == pytest.approx(0.25 * norm.ppf(0.001 ** (1 / 1000)))
    assert np.isfinite(largest_radius(10**7, 1e-9, 0.25))


def test_the_test_of_two_classes_is_scipys() -> None:
    pairs = [(5, 5), (10, 0), (60, 40), (90, 10), (1, 0), (0, 0), (550, 450), (560, 440)]
    first, second = np.array(pairs).T
    for alpha in (0.05, 0.001):
        expected = [k + m > 0 and binomtest(k, k + m).pvalue <= alpha for k, m in pairs]
        assert significant(first, second, alpha).tolist() == expected
