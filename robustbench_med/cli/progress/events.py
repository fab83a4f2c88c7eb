"""``--json``: the events of a run, one JSON object per line on stdout, besides the usual progress."""

from __future__ import annotations

import json
from types import TracebackType
from typing import TYPE_CHECKING, Any

from robustbench_med.progress import Grid, Progress, Task

if TYPE_CHECKING:
    from robustbench_med.records.record import Record


def emit(event: str, **facts: Any) -> None:
    """One line, flushed at once."""
    print(json.dumps({"event": event, **facts}, allow_nan=False), flush=True)


class Events:
    """Progress that is also printed as events.

    Args:
        view: the progress that is shown to people.
    """

    def __init__(self, view: Progress) -> None:
        self.view = view

    def task(self, description: str, total: int) -> Task:
        """Shown to people only."""
        return self.view.task(description, total)

    def grid(self, total: int) -> Grid:
        """Every call becomes an event of that name; ``grid`` and ``end`` enclose them."""
        return _EventGrid(self.view.grid(total), total)

    def record(self, record: Record) -> None:
        """The event ``record``."""
        emit("record", record=record.model_dump(mode="json"))


class _EventGrid:
    def __init__(self, view: Grid, total: int) -> None:
        self.view, self.total = view, total

    def __enter__(self) -> _EventGrid:
        emit("grid", cells=self.total)
        self.view.__enter__()
        return self

    def started(self, cell_id: str, title: str, images: int) -> None:
        emit("started", cell_id=cell_id, title=title, images=images)
        self.view.started(cell_id, title, images)

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        emit("advanced", cell_id=cell_id, images=images, robust=robust)
        self.view.advanced(cell_id, images, robust)

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        emit("finished", cell_id=cell_id, title=title, status=status, reason=reason, resumed=resumed)
        self.view.finished(cell_id, title, status, reason, resumed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.view.__exit__(kind, error, trace)
        emit("end", complete=kind is None)
