"""Where a run stands: cells by what became of them, those at work, the pace, the time that is left."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

#: Images that are reported sooner than this many seconds after their cell began were done by an earlier run.
INSTANT = 0.02
#: Seconds over which the pace is taken: long enough to be steady, short enough to follow.
WINDOW = 60.0


@dataclass
class Running:
    """A cell at work.

    Attributes:
        title: what it is called.
        images: that it has.
        began: when.
        done: images done.
        before: those of them that an earlier run did.
        robust: robust accuracy so far, a share.
    """

    title: str
    images: int
    began: float
    done: int = 0
    before: int = 0
    robust: float | None = None


class Tally:
    """Keeps count of a run; its methods are those of `robustbench_med.progress.Grid`.

    Args:
        total: cells of the run.
        clock: seconds, never going back.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.clock = total, clock
        self.ended: Counter[str] = Counter()
        self.running: dict[str, Running] = {}
        self.began = clock()
        self._seen: deque[tuple[float, int]] = deque()

    def started(self, cell_id: str, title: str, images: int) -> None:
        """A cell began, or began anew."""
        self.running[cell_id] = Running(title, images, self.clock())

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        """Some images of it are done."""
        now, cell = self.clock(), self.running[cell_id]
        if now - cell.began < INSTANT:
            cell.before += images
        else:
            self._seen.append((now, images))
        cell.done += images
        cell.robust = cell.robust if robust is None else robust

    def finished(self, cell_id: str, status: str) -> Running | None:
        """It ended; returns what was known of it, None for one that never began."""
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
        """How much of the run is over, in [0, 1]; cells at work count in part."""
        return min(1.0, (self.over() + self._partly()) / max(1, self.total))

    def pace(self) -> float | None:
        """Images per second of late; None before two chunks are done."""
        now = self.clock()
        while len(self._seen) > 2 and self._seen[0][0] < now - WINDOW:
            self._seen.popleft()
        if len(self._seen) < 2:
            return None
        # The images of the first entry were made before the time that is counted.
        span = now - self._seen[0][0]
        return sum(images for _, images in list(self._seen)[1:]) / span if span > 0 else None

    def left(self) -> float | None:
        """About how many seconds are left if later cells are like those so far; None while too little is known."""
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
