"""In a Jupyter notebook: progress as bars in the output of the running cell, notes and warnings in one line each."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import escape

from robustbench_med.errors import shown_by
from robustbench_med.interfaces.plural import plural
from robustbench_med.progress import Progress, Silent

#: Seconds between two changes of a bar.
PAUSE = 0.2


def progress() -> Progress:
    """Bars in a notebook, nothing elsewhere."""
    return NotebookProgress() if _in_notebook() else Silent()


@contextmanager
def notices() -> Iterator[None]:
    """In a notebook, show our notes and warnings in one line, without the file of ours that gives them."""
    if not _in_notebook():
        yield
        return
    with shown_by(
        lambda text: print(f"note: {text}"),  # noqa: T201 -- to the output of the cell
        lambda text: print(f"warning: {text}", file=sys.stderr),  # noqa: T201
    ):
        yield


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class NotebookProgress:
    """Opens bars in the output of the running cell."""

    def task(self, description: str, total: int) -> Bar:
        """A bar of ``total`` steps."""
        return Bar(description, total)

    def grid(self, total: int) -> GridBar:
        """A bar over the images of the running cell of a run."""
        return GridBar(total)


def _ipython() -> Any:
    """IPython's display, which is there where this is used."""
    return importlib.import_module("IPython.display")


class Bar:
    """A bar with its description and a note; it vanishes when it is closed."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total, self.done, self.note = description, total, 0, ""
        self.handle: Any = None
        self.drawn = 0.0

    def __enter__(self) -> Any:
        self._draw()
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Advance by ``steps``."""
        self.done += steps
        self.note = note or self.note
        if time.monotonic() - self.drawn >= PAUSE:
            self._draw()

    def __exit__(self, *_: object) -> None:
        self.handle.update(_ipython().HTML(""))

    def _draw(self) -> None:
        share = f'<progress value="{self.done}" max="{max(1, self.total)}"></progress>'
        shown = _ipython().HTML(f"{escape(self.description)} {share} {self.done}/{self.total} {escape(self.note)}")
        if self.handle is None:
            self.handle = _ipython().display(shown, display_id=True)
        else:
            self.handle.update(shown)
        self.drawn = time.monotonic()


class GridBar(Bar):
    """A bar over the images of all cells that have started."""

    def __init__(self, cells: int) -> None:
        super().__init__(plural(cells, "cell"), 0)

    def started(self, cell_id: str, title: str, images: int) -> None:
        """See `robustbench_med.progress.Grid`."""
        self.total += images
        self.note = title
        self._draw()

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        """See `robustbench_med.progress.Grid`."""
        known = "" if robust is None else f"{self.note.partition(':')[0]}: {100 * robust:.1f} % robust"
        self.advance(images, known)

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        """See `robustbench_med.progress.Grid`."""
        self.note = f"{title} {status}"
        self._draw()
