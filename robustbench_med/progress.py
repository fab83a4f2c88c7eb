"""Progress reporting: library code opens tasks, and the caller displays them (only the command line prints)."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """One progress bar. Use it as a context manager."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Advance by ``steps``; ``note`` is a short text next to the bar, such as ``loss 0.12``."""

    def __enter__(self) -> Task: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Grid(Protocol):
    """Progress of the cells of a run, of which several may run at once. Use it as a context manager."""

    def started(self, cell_id: str, title: str, images: int) -> None:
        """A cell of ``images`` images starts, or restarts from the beginning after its worker was lost."""

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        """``images`` more images are done, possibly in an earlier run; ``robust``: robust accuracy so far."""

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        """A cell has ended: ``ok``, ``skipped``, ``failed``, or ``done`` if its record existed already.

        ``resumed``: some of its images were measured by an earlier run.
        """

    def __enter__(self) -> Grid: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Opens progress bars."""

    def task(self, description: str, total: int) -> Task:
        """A bar of ``total`` steps."""

    def grid(self, total: int) -> Grid:
        """The display of a run of ``total`` cells."""


class _Hidden:
    """A bar, or the display of a run, that is not shown."""

    def advance(self, steps: int = 1, note: str = "") -> None: ...

    def started(self, cell_id: str, title: str, images: int) -> None: ...

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None: ...

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Silent:
    """Reports nothing; the default of the Python API."""

    def task(self, description: str, total: int) -> Task:
        """A bar that is not shown."""
        return _Hidden()

    def grid(self, total: int) -> Grid:
        """A display that is not shown."""
        return _Hidden()
