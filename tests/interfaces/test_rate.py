"""Shares as text."""

from __future__ import annotations

import math

import pytest

from robustbench_med.interfaces.rate import percent
from robustbench_med.leaderboard.render.page import figures


@pytest.mark.parametrize(
    ("share", "text", "on_the_page"),
    [
        (0.8906, "89.1", "89.1"),
        (-0.021, "-2.1", "\N{MINUS SIGN}2.1"),
        (-0.0001, "0.0", "0.0"),
        (None, "", "\N{EN DASH}"),
        (math.nan, "", "\N{EN DASH}"),
    ],
)
def test_a_share_in_percent(share: float | None, text: str, on_the_page: str) -> None:
    assert percent(share) == text
    assert figures.percent(share) == on_the_page
