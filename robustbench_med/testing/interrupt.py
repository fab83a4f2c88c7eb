"""An interruption at a chosen step, for tests that a training resumes."""

from __future__ import annotations

from robustbench_med.progress import Grid, Silent


class Stop(Exception):
    """Simulates the user's Ctrl-C."""


class StopAfter:
    """Progress (and its own task) that raises `Stop` once ``steps`` steps are done."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def task(self, description: str, total: int) -> StopAfter:
        """Itself."""
        return self

    def grid(self, total: int) -> Grid:
        """A display that is not shown."""
        return Silent().grid(total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count, and raise `Stop` at the chosen step."""
        self.left -= steps
        if steps and self.left <= 0:
            raise Stop

    def __enter__(self) -> StopAfter:
        return self

    def __exit__(self, *_: object) -> None:
        return None
