"""The state of a run: cells by status, those that are running, the pace, the remaining time; and lines that say so."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from robustbench_med.files import escaping
from robustbench_med.interfaces.plural import plural

#: Images that are reported sooner than this many seconds after their cell began were measured by an earlier run.
INSTANT = 0.02
#: Seconds over which the pace is taken: long enough to be steady, short enough to follow.
WINDOW = 60.0
COLOURS = {"ok": "green", "failed": "red", "skipped": "dim", "done": "dim", "running": "cyan"}


@dataclass
class RunningCell:
    """A running cell.

    Attributes:
        title: its name.
        images: how many it has.
        began: time at which it began, in seconds.
        done: images that are done.
        before: those of them that an earlier run measured.
        robust: robust accuracy so far, a share.
    """

    title: str
    images: int
    began: float
    done: int = 0
    before: int = 0
    robust: float | None = None


class RunState:
    """Running totals of a run; a view of a run adds how it is shown.

    Args:
        total: cells of the run.
        clock: seconds, monotonic.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.clock = total, clock
        self.ended: Counter[str] = Counter()
        self.running: dict[str, RunningCell] = {}
        self.began = clock()
        self._seen: deque[tuple[float, int]] = deque()

    def started(self, cell_id: str, title: str, images: int) -> None:
        """A cell began, or began again."""
        self.running[cell_id] = RunningCell(title, images, self.clock())

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        """Some images of it are done."""
        now, cell = self.clock(), self.running[cell_id]
        if now - cell.began < INSTANT:
            cell.before += images
        else:
            self._seen.append((now, images))
        cell.done += images
        cell.robust = cell.robust if robust is None else robust

    def end(self, cell_id: str, status: str) -> RunningCell | None:
        """It ended; returns its state, None for a cell that never began."""
        self.ended[status] += 1
        return self.running.pop(cell_id, None)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    def over(self) -> int:
        """Cells that have ended."""
        return self.ended.total()

    def share(self) -> float:
        """The completed part of the run, in [0, 1]; running cells count in part."""
        return min(1.0, (self.over() + self._partly()) / max(1, self.total))

    def pace(self) -> float | None:
        """Images per second over the last minute; None before two chunks are done."""
        now = self.clock()
        while len(self._seen) > 2 and self._seen[0][0] < now - WINDOW:
            self._seen.popleft()
        if len(self._seen) < 2:
            return None
        # The images of the first entry were made before the time span that is counted.
        span = now - self._seen[0][0]
        return sum(images for _, images in list(self._seen)[1:]) / span if span > 0 else None

    def left(self) -> float | None:
        """Estimate of the remaining seconds if later cells are like those so far; None while too little is known."""
        now = sum((cell.done - cell.before) / cell.images for cell in list(self.running.values()) if cell.images)
        measured = self.ended["ok"] + self.ended["failed"] + now
        if self.elapsed < 2 or measured < 0.05:
            return None
        ahead = self.total - self.over() - self._partly()
        return max(0.0, ahead * self.elapsed / measured)

    def _partly(self) -> float:
        return sum(cell.done / cell.images for cell in list(self.running.values()) if cell.images)


def duration(seconds: float) -> str:
    """``50 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def finished_line(
    title: str, status: str, reason: str | None, resumed: bool, cell: RunningCell | None, seconds: float
) -> Text:
    """One line for a cell that has ended: ``ok  89.1 %  48 s  medfedpure / apgd / oblivious``, in columns."""
    share = cell.robust if status == "ok" and cell is not None else None
    robust = "" if share is None else f"{100 * share:.1f} %"
    line = Text.assemble(
        (f"{status:<8}", COLOURS[status]), f"{robust:>7}", (f"{duration(seconds) if cell else '':>9}  ", "dim"), title
    )
    if resumed:
        line.append(" (resumed)", style="dim")
    if reason:
        line.append(f": {escaping.line(reason)}", style=COLOURS[status])
    return line


def shortened(title: str, width: int) -> str:
    """The title in at most ``width`` characters: cells differ at both ends of it."""
    if len(title) <= width:
        return title
    tail = (width - 1) // 2
    return f"{title[: width - 1 - tail]}…{title[len(title) - tail :]}"


def summary(state: RunState, stopped: bool = False) -> Text:
    """The cells by status, in one line."""
    names = {"ok": "ok", "failed": "failed", "skipped": "skipped", "done": "done before"}
    counts = [f"{state.ended[status]} {name}" for status, name in names.items() if state.ended[status]]
    still = state.total - state.over()
    if still:
        counts.append(f"{still} not complete")
    verb = "stopped after" if stopped else "in"
    return Text(
        f"{plural(state.total, 'cell')} {verb} {duration(state.elapsed)}: {', '.join(counts) or 'none'}", style="dim"
    )
