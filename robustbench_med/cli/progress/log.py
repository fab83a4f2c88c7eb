"""Progress where there is no terminal: a few complete lines for a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.text import Text

from robustbench_med.cli.progress.state import RunState, duration, finished_line, summary

#: Seconds between two lines on a running cell.
HEARTBEAT = 60.0


class TaskLog:
    """A task: one line when it starts and one when it ends.

    Args:
        console: where to write.
        description: its name.
        total: steps.
    """

    def __init__(self, console: Console, description: str, total: int) -> None:
        self.console, self.description, self.total = console, description, total
        self.done, self.note = 0, ""

    def __enter__(self) -> TaskLog:
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


class GridLog:
    """The cells of a run: one line for each that ends, and every minute one on the running cells.

    Args:
        console: where to write.
        total: cells.
        state: of the run; a new one by default.
    """

    def __init__(self, console: Console, total: int, state: RunState | None = None) -> None:
        self.console, self.state = console, state or RunState(total)
        self._said = self.state.clock()

    def __enter__(self) -> GridLog:
        return self

    def started(self, cell_id: str, title: str, images: int) -> None:
        """A cell began."""
        self.state.started(cell_id, title, images)

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        """Some of its images are done."""
        self.state.advanced(cell_id, images, robust)
        if self.state.clock() - self._said >= HEARTBEAT:
            self._say(Text(self._running()))

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        """A cell ended."""
        cell = self.state.finished(cell_id, status)
        if status == "done":  # there may be thousands; the last line counts them
            return
        total = str(self.state.total)
        number = f"[{self.state.over():>{len(total)}}/{total}] "
        seconds = self.state.clock() - cell.began if cell else 0.0
        self._say(Text(number).append_text(finished_line(title, status, reason, resumed, cell, seconds)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say(summary(self.state, stopped=kind is not None))

    def _running(self) -> str:
        state = self.state
        cells = [
            f"{cell.title} {cell.done}/{cell.images}"
            + (f" robust {100 * cell.robust:.1f} %" if cell.robust is not None else "")
            for cell in state.running.values()
        ]
        pace, left = state.pace(), state.left()
        facts = [
            f"{state.over()} of {state.total} cells",
            f"{pace:.3g} images/s" if pace is not None else "",
            f"about {duration(left)} left" if left is not None else "",
        ]
        return f"{', '.join(filter(None, facts))}; running: {'; '.join(cells)}"

    def _say(self, line: Text) -> None:
        self._said = self.state.clock()
        self.console.print(line, soft_wrap=True)
