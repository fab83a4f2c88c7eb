"""Ranks: who is better than whom, whatever the order, and never the worse above the better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from helpers.records import ladder_record, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.interfaces.rate import Rate, wilson
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.ranking.ranks import RankInput, ranks, significant

N = 24
ROWS = st.lists(st.lists(st.booleans(), min_size=N, max_size=N), min_size=1, max_size=7)


def entry(safe: list[bool], images: bool = True) -> RankInput:
    low, high = wilson(Rate(sum(safe), len(safe)))
    known = np.array(safe, dtype=float) if images else None
    return RankInput(sum(safe) / len(safe), low, high, known, tuple(range(len(safe))), tuple(range(len(safe))))


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


def test_a_row_that_does_not_know_the_patients_takes_those_of_another_in_any_order() -> None:
    few = tuple(at // 8 for at in range(N))  # three patients say nothing, 24 images would
    known, unknown = replace(entry([True] * N), patients=few), entry([False] * N)
    assert significant([unknown, replace(unknown, images=np.ones(N))])[0, 1]
    for pair in ([known, unknown], [unknown, known]):
        assert not significant(pair)[0, 1]


@given(rows=ROWS, gained=st.sets(st.integers(0, N - 1), min_size=1))
def test_a_row_that_withstands_more_is_never_worse_against_another(rows: list[list[bool]], gained: set[int]) -> None:
    better = [each or at in gained for at, each in enumerate(rows[0])]
    for other in rows[1:]:
        before = ranks([entry(rows[0]), entry(other)])[0].rank
        assert ranks([entry(better), entry(other)])[0].rank <= before


@given(one=st.lists(st.booleans(), min_size=N, max_size=N), two=st.lists(st.booleans(), min_size=N, max_size=N))
def test_ties_are_symmetric(one: list[bool], two: list[bool]) -> None:
    first, second = ranks([entry(one), entry(two)])
    assert first.tied == second.tied
    assert (first.rank == second.rank) == (first.tied == 1)


def test_images_of_one_patient_are_one_observation() -> None:
    one, two = [True] * 24, [True] * 12 + [False] * 12
    apart, together = range(24), [at // 4 for at in range(24)]  # three of six patients differ
    for patients, differs in ((apart, True), (together, False)):
        pair = [replace(entry(row), patients=tuple(patients)) for row in (one, two)]
        assert significant(pair)[0, 1] == differs


def test_differences_are_corrected_for_the_pairs_of_a_table() -> None:
    """Six images more are significant between two rows, but not when they are the best of 45 pairs."""
    rows = [[True] * 12 + [False] * 12, [True] * 18 + [False] * 6]
    assert [rank.rank for rank in ranks([entry(row) for row in rows])] == [2, 1]
    many = [entry(row) for row in rows + [rows[0]] * 8]
    assert {rank.rank for rank in ranks(many)} == {1}


def test_the_same_images_tell_apart_what_intervals_cannot() -> None:
    one, two = [True] * 20 + [False] * 20, [True] * 12 + [False] * 28
    assert entry(one).low < entry(two).high
    assert [rank.rank for rank in ranks([entry(one), entry(two)])] == [1, 2]
    assert [rank.rank for rank in ranks([entry(one, images=False), entry(two, images=False)])] == [1, 1]


@settings(deadline=None)  # the first call imports scipy
@given(order=st.permutations(range(6)))
def test_boards_do_not_depend_on_the_order_of_records(order: list[int]) -> None:
    rows = [[True] * k + [False] * (12 - k) for k in (12, 11, 4, 4, 0, 8)]
    records = [ladder_record(str(k), row, name=f"f{k // 2}", seed=k % 2) for k, row in enumerate(rows)]
    outcomes = {str(k): outcome(str(k), row) for k, row in enumerate(rows)}
    assert boards([records[at] for at in order], outcomes) == boards(records, outcomes)
