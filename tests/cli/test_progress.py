"""How a run looks while it runs: on a terminal, in a log, and as events."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from robustbench_med.cli.progress import log
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.cli.progress.events import Events
from robustbench_med.cli.progress.live import LiveGrid
from robustbench_med.cli.progress.state import WINDOW, RunState, duration, shortened
from robustbench_med.progress import Silent


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def terminal(width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)


def written(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def picture(grid: LiveGrid, width: int = 80) -> list[str]:
    """The live area, without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(grid)
    return [line.rstrip() for line in written(console).splitlines()]


# --- keeping count ---


def test_pace_and_time_left(clock: Clock) -> None:
    state = RunState(total=4, clock=clock)
    state.started("a", "a", 100)
    assert state.pace() is None
    assert state.left() is None
    for _ in range(10):
        clock.now += 1
        state.advanced("a", 10, 0.5)
    assert state.pace() == pytest.approx(10)
    state.end("a", "ok")
    assert state.share() == 0.25
    assert state.left() == pytest.approx(30)  # three more like the first
    state.started("b", "b", 100)
    clock.now += 5
    state.advanced("b", 50, None)
    assert state.share() == 0.375
    assert state.left() == pytest.approx(15 / 1.5 * 2.5)
    clock.now += 2 * WINDOW
    assert (state.pace() or 0) < 1  # a cell that hangs is seen


def test_what_earlier_runs_did_makes_neither_pace_nor_hope(clock: Clock) -> None:
    state = RunState(total=12, clock=clock)
    for number in range(10):
        state.end(f"old {number}", "done")
    state.started("a", "a", 100)
    state.advanced("a", 90, 0.3)  # at once: these were done before
    clock.now = 10
    state.advanced("a", 5, 0.3)
    clock.now = 20
    state.advanced("a", 5, 0.3)
    assert state.pace() == pytest.approx(0.5)
    # 0.1 cells took 20 s; one whole cell is left.
    assert state.left() == pytest.approx(200)


def test_a_cell_that_began_again_has_advanced_nothing(clock: Clock) -> None:
    state = RunState(total=1, clock=clock)
    state.started("a", "a", 10)
    clock.now = 1
    state.advanced("a", 8, 0.1)
    state.started("a", "a", 10)
    assert state.running["a"].done == 0
    assert state.share() == 0


def test_durations() -> None:
    assert [duration(s) for s in (0, 99, 100, 5999, 6000, 172799, 172800)] == [
        "0 s",
        "99 s",
        "2 min",
        "100 min",
        "1.7 h",
        "48.0 h",
        "2.0 days",
    ]


# --- on a terminal ---


def test_the_view_shows_counts_pace_time_left_and_robust_accuracy(clock: Clock) -> None:
    grid = LiveGrid(RichProgress(terminal()), 5, clock)
    grid.finished("x", "x", "done", None, False)
    grid.finished("y", "y", "skipped", "no such thing", False)
    for number in range(2):
        grid.started(f"c{number}", f"guarded / apgd / oblivious / hospital-{number}", 64)
    clock.now = 4
    grid.advanced("c0", 32, 0.75)
    clock.now = 8
    grid.advanced("c0", 16, 0.625)
    shown = picture(grid)
    assert shown[0] == ""
    assert shown[1].endswith("2 of 5 cells  4 images/s   8 s   about 24 s left")
    assert shown[2] == "0 ok   2 running   1 skipped   1 done before   %: robust accuracy so far"
    assert shown[3].endswith("48/64  62.5 %  guarded / apgd / ob…vious / hospital-0")
    assert shown[4].endswith(" 0/64          guarded / apgd / ob…vious / hospital-1")
    assert len(shown) == 5


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_view_fits_the_terminal_and_counts_what_it_cannot_show(width: int) -> None:
    grid = LiveGrid(RichProgress(terminal(width)), 100)
    for number in range(20):
        grid.started(f"c{number}", f"guarded:detector=[{'x' * 100}] / apgd / client-{number}", 1000)
    shown = picture(grid, width)
    assert max(map(len, shown)) <= width
    assert shown[-1] == "and 12 more"


def test_finished_cells_scroll_by_and_the_last_line_sums_up() -> None:
    console = terminal(100)
    progress = RichProgress(console)
    with progress.grid(5) as grid:
        grid.started("a", "guarded / apgd / oblivious", 10)
        with progress.task("calibrating on clean images", 4) as bar:
            bar.advance(4)
        grid.advanced("a", 10, 0.5)
        grid.finished("a", "guarded / apgd / oblivious", "ok", None, True)
        grid.started("b", "guarded / pgd / oblivious", 10)
        grid.finished("b", "guarded / pgd / oblivious", "failed", "RuntimeError:\n as asked", False)
        grid.finished("c", "bare / apgd / gate", "skipped", "there is no detector", False)
        grid.finished("d", "bare / apgd / oblivious", "done", None, False)
    shown = written(console)
    assert "ok       50.0 %      0 s  guarded / apgd / oblivious (resumed)" in shown
    assert "failed               0 s  guarded / pgd / oblivious: RuntimeError: as asked" in shown
    assert "bare / apgd" not in shown  # counted, not told
    last = shown.rstrip().splitlines()[-1]
    assert last.endswith("5 cells in 0 s: 1 ok, 1 failed, 1 skipped, 1 done before, 1 not complete")
    assert "calibrating" not in shown.rpartition("guarded / pgd")[2]  # bars within a run go when they are done


def test_a_run_that_is_stopped_says_so() -> None:
    console = terminal()

    def stopped() -> None:
        with RichProgress(console).grid(3) as grid:
            grid.started("a", "a", 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert "3 cells stopped after 0 s: 3 not complete" in written(console)
    assert written(console).count("\x1b[?25l") == written(console).count("\x1b[?25h")  # the cursor is back


def test_both_ends_of_a_long_title_stay() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abcdefghij", 6) == "abc…ij"


# --- in a log ---


def test_a_log_gets_a_line_for_each_cell_and_few_besides(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=40)
    view = log.GridLog(console, 12, clock)
    with view as grid:
        for number in range(5):
            grid.finished(f"old {number}", "old", "done", None, False)
        grid.started("a", "guarded / apgd / oblivious", 100)
        for _ in range(100):
            clock.now += 1.25
            grid.advanced("a", 1, 0.5)
        grid.finished("a", "guarded / apgd / oblivious", "ok", None, False)
        grid.finished("b", "bare / apgd / gate", "skipped", "there is no detector", False)
    assert written(console).splitlines() == [
        "5 of 12 cells, 0.8 images/s, about 14 min left; running: guarded / apgd / oblivious 48/100 robust 50.0 %",
        "5 of 12 cells, 0.8 images/s, about 13 min left; running: guarded / apgd / oblivious 96/100 robust 50.0 %",
        "[ 6/12] ok       50.0 %    2 min  guarded / apgd / oblivious",
        "[ 7/12] skipped                   bare / apgd / gate: there is no detector",
        "12 cells in 2 min: 1 ok, 1 skipped, 5 done before, 5 not complete",
    ]


def test_without_a_terminal_there_are_lines() -> None:
    console = Console(file=io.StringIO())
    with RichProgress(console).grid(1) as grid:
        grid.started("a", "a", 1)
        grid.finished("a", "a", "ok", None, False)
    assert "\x1b" not in written(console)
    assert "[1/1] ok" in written(console)


# --- as events ---


def test_every_call_is_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    events = Events(Silent())

    def run() -> None:
        with events.grid(2) as grid:
            grid.started("a", "guarded", 3)
            grid.advanced("a", 3, None)
            grid.finished("a", "guarded", "failed", "RuntimeError: as\nasked", False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "grid", "cells": 2},
        {"event": "started", "cell_id": "a", "title": "guarded", "images": 3},
        {"event": "advanced", "cell_id": "a", "images": 3, "robust": None},
        {
            "event": "finished",
            "cell_id": "a",
            "title": "guarded",
            "status": "failed",
            "reason": "RuntimeError: as\nasked",
            "resumed": False,
        },
        {"event": "end", "complete": False},
    ]


def test_events_leave_the_view_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    console = terminal()
    events = Events(RichProgress(console))
    with events.task("reading", 2) as bar, events.grid(1) as grid:
        bar.advance(2)
        grid.started("a", "guarded", 1)
        grid.finished("a", "guarded", "ok", None, False)
    assert "guarded" in written(console)
    assert len(capsys.readouterr().out.splitlines()) == 4
