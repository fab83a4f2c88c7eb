"""How long work is reported: code opens tasks, whoever runs it decides how they look (only the CLI prints)."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Task(Protocol):
    """One bar. Use it as a context manager."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move on by ``steps``; ``note`` is a short figure shown beside the bar, such as ``loss 0.12``."""

    def __enter__(self) -> Task: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Opens bars."""

    def task(self, description: str, total: int) -> Task:
        """A bar of ``total`` steps."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        """Show nothing."""

    def __enter__(self) -> _SilentTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Silent:
    """Reports nothing; the default of the Python API."""

    def task(self, description: str, total: int) -> Task:
        """A bar nobody sees."""
        return _SilentTask()
