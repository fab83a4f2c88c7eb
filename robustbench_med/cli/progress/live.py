"""The view of a run on a terminal: finished cells scroll by, below them stands where the run is."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.progress.state import Running, Tally, duration

if TYPE_CHECKING:
    from robustbench_med.cli.progress.bars import RichProgress

#: Cells at work that are shown; the others are counted.
SHOWN = 8
COLOURS = {"ok": "green", "failed": "red", "skipped": "dim", "done": "dim", "running": "cyan"}
#: Ends that are worth a line of their own; of the others there may be thousands, and they are counted.
LINES = ("ok", "failed")


class LiveGrid:
    """The cells of one run.

    Args:
        owner: draws it, together with whatever bars are open.
        total: cells.
    """

    def __init__(self, owner: RichProgress, total: int) -> None:
        self.owner, self.tally = owner, Tally(total)

    def __enter__(self) -> LiveGrid:
        self.owner.enter(self)
        return self

    def started(self, cell_id: str, title: str, images: int) -> None:
        """A cell began."""
        self.tally.started(cell_id, title, images)

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        """Some of its images are done."""
        self.tally.advanced(cell_id, images, robust)

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        """A cell ended."""
        cell = self.tally.finished(cell_id, status)
        if status in LINES:
            seconds = self.tally.clock() - cell.began if cell else 0.0
            # A failure is said in full; of the others a line each is enough.
            short = title if status == "failed" else squeezed(title, max(20, self.owner.console.width - 38))
            self.owner.console.print(ended(short, status, reason, resumed, cell, seconds), soft_wrap=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.owner.leave(self)
        self.owner.console.print(summary(self.tally, stopped=kind is not None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        running = list(self.tally.running.values())
        parts: list[RenderableType] = [Text(""), self._whole(options.max_width)]
        if running:
            parts.append(self._cells(running[:SHOWN], options.max_width))
        if len(running) > SHOWN:
            parts.append(Text(f"and {len(running) - SHOWN} more", style="dim"))
        yield Group(*parts)

    def _whole(self, width: int) -> RenderableType:
        """Counts, a bar over all cells, pace and time left."""
        tally = self.tally
        counts = Text("   ").join(_counts(tally))
        facts = [f"{pace:.3g} images/s" if (pace := tally.pace()) is not None else "", duration(tally.elapsed)]
        facts += [f"about {duration(left)} left" if (left := tally.left()) is not None else ""]
        line = Table.grid(padding=(0, 2))
        line.add_row(
            _bar(tally.share(), 1.0, min(40, width // 3)),
            Text(f"{tally.over()} of {tally.total} cells"),
            Text("   ".join(filter(None, facts)), style="dim"),
        )
        return Group(line, counts)

    def _cells(self, cells: list[Running], width: int) -> Table:
        made = Table.grid(padding=(0, 2))
        made.add_column(no_wrap=True)
        for _ in range(2):
            made.add_column(no_wrap=True, justify="right")
        made.add_column(no_wrap=True)
        for cell in cells:
            robust = "" if cell.robust is None else f"{100 * cell.robust:.1f} %"
            made.add_row(
                _bar(cell.done, max(1, cell.images), 16),
                Text(f"{cell.done}/{cell.images}", style="dim"),
                Text(robust, style="bold"),
                Text(squeezed(cell.title, max(20, width - 42))),
            )
        return made


def _bar(done: float, total: float, width: int) -> ProgressBar:
    return ProgressBar(total, done, width, style="bright_black", complete_style="cyan", finished_style="green")


def _counts(tally: Tally) -> Iterator[Text]:
    for status, number in (
        ("ok", tally.ended["ok"]),
        ("running", len(tally.running)),
        ("failed", tally.ended["failed"]),
        ("skipped", tally.ended["skipped"]),
        ("done", tally.ended["done"]),
    ):
        if number or status in ("ok", "running"):
            name = "done before" if status == "done" else status
            yield Text.assemble((f"{number} ", COLOURS[status]), (name, "dim"))
    if any(cell.robust is not None for cell in list(tally.running.values())):
        yield Text("%: robust accuracy so far", style="dim")


def ended(title: str, status: str, reason: str | None, resumed: bool, cell: Running | None, seconds: float) -> Text:
    """One line on a cell that is over: ``ok  89.1 %  48 s  medfedpure / apgd / oblivious``, in columns."""
    share = cell.robust if status == "ok" and cell is not None else None
    robust = "" if share is None else f"{100 * share:.1f} %"
    line = Text.assemble(
        (f"{status:<8}", COLOURS[status]), f"{robust:>7}", (f"{duration(seconds) if cell else '':>9}  ", "dim"), title
    )
    if resumed:
        line.append(" (resumed)", style="dim")
    if reason:
        line.append(f": {' '.join(reason.split())}", style=COLOURS[status])
    return line


def squeezed(title: str, width: int) -> str:
    """The title in at most ``width`` characters: what tells cells apart stands at both ends of it."""
    if len(title) <= width:
        return title
    tail = (width - 1) // 2
    return f"{title[: width - 1 - tail]}…{title[len(title) - tail :]}"


def summary(tally: Tally, stopped: bool = False) -> Text:
    """What has become of the cells, in one line."""
    names = {"ok": "ok", "failed": "failed", "skipped": "skipped", "done": "done before"}
    counts = [f"{tally.ended[status]} {name}" for status, name in names.items() if tally.ended[status]]
    still = tally.total - tally.over()
    if still:
        counts.append(f"{still} not begun or not finished")
    verb = "stopped after" if stopped else "in"
    return Text(f"{tally.total} cells {verb} {duration(tally.elapsed)}: {', '.join(counts) or 'none'}", style="dim")
