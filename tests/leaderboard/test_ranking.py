"""Ranks: who is better than whom, whatever the order, and never the worse above the better."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.records import ladder_record, outcome
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustbench_med.interfaces.rate import Rate, wilson
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.ranking.ranks import RankInput, discordant, ranks

N = 24
ROWS = st.lists(st.lists(st.booleans(), min_size=N, max_size=N), min_size=1, max_size=7)


def entry(safe: list[bool], images: bool = True) -> RankInput:
    low, high = wilson(Rate(sum(safe), len(safe)))
    return RankInput(sum(safe) / len(safe), low, high, np.array(safe, dtype=float) if images else None)


@given(rows=ROWS, images=st.lists(st.booleans(), min_size=7, max_size=7), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[list[bool]], images: list[bool], order) -> None:  # type: ignore[no-untyped-def]
    inputs = [entry(row, known) for row, known in zip(rows, images, strict=False)]
    at = list(range(len(inputs)))
    order.shuffle(at)
    again = ranks([inputs[i] for i in at])
    assert [again[at.index(i)] for i in range(len(inputs))] == ranks(inputs)


@given(rows=ROWS, images=st.lists(st.booleans(), min_size=7, max_size=7))
def test_a_higher_figure_never_ranks_lower(rows: list[list[bool]], images: list[bool]) -> None:
    inputs = [entry(row, known) for row, known in zip(rows, images, strict=False)]
    found = ranks(inputs)
    assert min(rank.rank for rank in found) == 1
    for one, its in zip(inputs, found, strict=True):
        for two, other in zip(inputs, found, strict=True):
            if one.value > two.value:
                assert its.rank <= other.rank
            if one.value == two.value:
                assert its.rank == other.rank


@given(rows=ROWS, gained=st.sets(st.integers(0, N - 1), min_size=1))
def test_a_row_that_withstands_more_is_never_ranked_lower_than_before(rows: list[list[bool]], gained: set[int]) -> None:
    better = [each or at in gained for at, each in enumerate(rows[0])]
    before = ranks([entry(row) for row in rows])[0].rank
    assert ranks([entry(better), *map(entry, rows[1:])])[0].rank <= before


@given(one=st.lists(st.booleans(), min_size=N, max_size=N), two=st.lists(st.booleans(), min_size=N, max_size=N))
def test_ties_are_symmetric(one: list[bool], two: list[bool]) -> None:
    first, second = ranks([entry(one), entry(two)])
    assert first.tied == second.tied
    assert (first.rank == second.rank) == (first.tied == 1)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (6, 0), (9, 1), (8, 1), (15, 5), (14, 5), (40, 22)])
def test_the_threshold_is_that_of_the_binomial_test_on_images_that_differ(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert (wins >= discordant(100)[wins + losses]) == (expected <= 0.05)


def test_the_same_images_tell_apart_what_intervals_cannot() -> None:
    one, two = [True] * 20 + [False] * 20, [True] * 12 + [False] * 28
    assert entry(one).low < entry(two).high
    assert [rank.rank for rank in ranks([entry(one), entry(two)])] == [1, 2]
    assert [rank.rank for rank in ranks([entry(one, images=False), entry(two, images=False)])] == [1, 1]


@given(order=st.permutations(range(6)))
def test_boards_do_not_depend_on_the_order_of_records(order: list[int]) -> None:
    rows = [[True] * k + [False] * (12 - k) for k in (12, 11, 4, 4, 0, 8)]
    records = [ladder_record(str(k), row, name=f"f{k // 2}", seed=k % 2) for k, row in enumerate(rows)]
    outcomes = {str(k): outcome(str(k), row) for k, row in enumerate(rows)}
    assert boards([records[at] for at in order], outcomes) == boards(records, outcomes)
