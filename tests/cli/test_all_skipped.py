"""A run of which every cell was skipped says so, and why in its last line."""

from __future__ import annotations

from helpers import board

from robustbench_med.cli.tables.records import nothing_measured


def test_the_reason_comes_last() -> None:
    skipped = board.record("a1", status="skipped", n=0, reason="there is no detector to keep quiet")
    assert list(nothing_measured([skipped])) == [
        "nothing was measured: the only cell was skipped",
        "skipped: medfedpure:fpr=0.05 / ladder:quick / ladder: there is no detector to keep quiet",
    ]
    twice = [skipped, board.record("a2", status="skipped", n=0, reason="there is no detector to keep quiet")]
    assert list(nothing_measured(twice)) == [
        "nothing was measured: all 2 cells were skipped",
        "skipped: 2 cells: there is no detector to keep quiet",
    ]


def test_nothing_is_said_where_something_was_measured_or_failed() -> None:
    skipped = board.record("a1", status="skipped", n=0, reason="r")
    assert list(nothing_measured([skipped, board.record("a2")])) == []
    assert list(nothing_measured([skipped, board.record("a2", status="failed", n=0, reason="r")])) == []
    assert list(nothing_measured([])) == []
