"""Progress where there is no terminal: whole lines for a log, few of them."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.text import Text

from robustbench_med.cli.progress.live import ended, summary
from robustbench_med.cli.progress.state import Tally, duration

#: Seconds between two lines that only say that work goes on.
HEARTBEAT = 60.0


class TaskLines:
    """A task: one line when it starts and one when it ends.

    Args:
        console: where to write.
        description: what it is called.
        total: steps.
    """

    def __init__(self, console: Console, description: str, total: int) -> None:
        self.console, self.description, self.total = console, description, total
        self.done, self.note = 0, ""

    def __enter__(self) -> TaskLines:
        self.started = time.monotonic()
        self._say(f"{self.description}: {self.total} steps")
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count; the last note is shown at the end."""
        self.done += steps
        self.note = note or self.note

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        verb = "done" if kind is None else "stopped"
        note = f", {self.note}" if self.note else ""
        seconds = time.monotonic() - self.started
        self._say(f"{self.description}: {verb}, {self.done} of {self.total} in {seconds:.1f} s{note}")

    def _say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


class GridLines:
    """The cells of a run: one line for each that ends, and every minute one on how far it is.

    Args:
        console: where to write.
        total: cells.
        tally: keeps count; a new one by default.
    """

    def __init__(self, console: Console, total: int, tally: Tally | None = None) -> None:
        self.console, self.tally = console, tally or Tally(total)
        self._said = self.tally.clock()

    def __enter__(self) -> GridLines:
        return self

    def started(self, cell_id: str, title: str, images: int) -> None:
        """A cell began."""
        self.tally.started(cell_id, title, images)

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        """Some of its images are done."""
        self.tally.advanced(cell_id, images, robust)
        if self.tally.clock() - self._said >= HEARTBEAT:
            self._say(Text(self._where()))

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        """A cell ended."""
        cell = self.tally.finished(cell_id, status)
        if status == "done":  # there may be thousands; the last line counts them
            return
        total = str(self.tally.total)
        number = f"[{self.tally.over():>{len(total)}}/{total}] "
        seconds = self.tally.clock() - cell.began if cell else 0.0
        self._say(Text(number).append_text(ended(title, status, reason, resumed, cell, seconds)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say(summary(self.tally, stopped=kind is not None))

    def _where(self) -> str:
        tally = self.tally
        cells = [
            f"{cell.title} {cell.done}/{cell.images}"
            + (f" robust {100 * cell.robust:.1f} %" if cell.robust is not None else "")
            for cell in tally.running.values()
        ]
        pace, left = tally.pace(), tally.left()
        facts = [
            f"{tally.over()} of {tally.total} cells",
            f"{pace:.3g} images/s" if pace is not None else "",
            f"about {duration(left)} left" if left is not None else "",
        ]
        return f"{', '.join(filter(None, facts))}; at work: {'; '.join(cells)}"

    def _say(self, line: Text) -> None:
        self._said = self.tally.clock()
        self.console.print(line, soft_wrap=True)
