"""The exceptions of robustbench-med.

::

    RbmedError
    ├── UsageError            the request cannot be carried out as written: exit code 2
    │   ├── UnknownName       no plugin offers that name
    │   ├── AmbiguousName     two distributions offer that name
    │   ├── BadParameter      a parameter is unknown, of the wrong type or out of range
    │   ├── NotDefined        an attack or a rung does not exist for this system: the cell is skipped, with the reason
    │   ├── BadConfig         a configuration file cannot be read
    │   ├── DataError         a data root is missing, an image unreadable, a class empty
    │   │   └── NothingFound    a folder holds nothing of what a data set reads
    │   ├── WeightsError      weights are absent, corrupt or not safetensors
    │   └── DeviceError       the requested device does not exist
    ├── StoreError            results cannot be written or read: exit code 1
    └── HarnessError          a cell broke a rule of evaluation: the cell fails, the run continues
        ├── WeightsChanged      an attack changed the networks that it attacked
        ├── OutsideThreatModel  an adversarial image left the ball or [0, 1]
        └── BudgetExceeded      an attack exceeded its budget: it is stopped, its best images are used

Warnings that the command line shows as one line are `RbmedWarning`.

A message is one line that names the thing, where it came from and what would be valid.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from robustbench_med.files.escaping import line

if TYPE_CHECKING:
    import pydantic


class RbmedError(Exception):
    """Base class of the exceptions of robustbench-med."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the message says what is wrong, the frames do not."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(RbmedError):
    """The request cannot be carried out as written (exit code 2)."""


class UnknownName(UsageError):
    """No plugin offers the name."""


class AmbiguousName(UsageError):
    """More than one distribution offers the name; qualify it as ``distribution/name``."""


class BadParameter(UsageError):
    """A parameter is unknown, of the wrong type or out of range."""


class NotDefined(UsageError):
    """An attack or a rung of the ladder does not exist for this system; the message names the alternative."""


class BadConfig(UsageError):
    """A configuration file cannot be read."""


class DataError(UsageError):
    """A data root is missing, an image is unreadable, or a class is empty."""


class NothingFound(DataError):
    """A folder holds nothing of what a data set reads.

    Args:
        what: it reads: ``DICOM files``.
        where: the folder.
        more: the end of the message: what was expected.
    """

    def __init__(self, what: str, where: object, more: str = "") -> None:
        super().__init__(f"no {what} under {where}{more}")
        self.what = what


class WeightsError(UsageError):
    """Weights are absent, corrupt, or stored in a format that could run code."""


class DeviceError(UsageError):
    """The requested device does not exist."""


class StoreError(RbmedError):
    """Results cannot be written: the disk is full, the folder read-only, locked or a link. Earlier results are kept."""


class HarnessError(RbmedError):
    """A cell broke a rule of evaluation; it becomes a failed record."""


class WeightsChanged(HarnessError):
    """An attack changed the networks that it attacked; they are loaded again for the next cell."""


class OutsideThreatModel(HarnessError):
    """An adversarial image left the norm ball or the range [0, 1]."""


class BudgetExceeded(HarnessError):
    """An attack exceeded its budget; it is stopped, and its best images so far are used."""


class RbmedWarning(UserWarning):
    """A problem that the user should know about and that does not stop the run."""


class StoreWarning(RbmedWarning):
    """A line of a file of records is not a record, or a stored file is damaged and is created again."""


class Note(RbmedWarning):
    """What a user should know while something goes on; nothing is wrong."""


class ModelNote(Note):
    """What a user should know about a model from elsewhere before its figures are read; nothing is wrong with it."""


@contextmanager
def shown_by(note: Callable[[str], object], warn: Callable[[str], object]) -> Iterator[None]:
    """Within the block, show our notes and warnings by these functions, each time; those of others as Python does."""
    show_other = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, RbmedWarning):
            (note if issubclass(category, Note) else warn)(str(message))
        else:
            show_other(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RbmedWarning)
        warnings.showwarning = show
        yield


def near(name: str, known: Iterable[str], most: int = 1) -> str:
    """The part of a message that suggests the known names most like ``name``: ``, did you mean 'apgd'?``."""
    found = difflib.get_close_matches(name, known, n=most)
    return f", did you mean {' or '.join(map(repr, found))}?" if found else ";"


def first_fault(error: pydantic.ValidationError) -> str:
    """The first error that pydantic reports, on one line: ``dataset.name: Field required``."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"]))[:80] or "the whole"
    return shortened(f"{where}: {fault['msg'].removeprefix('Value error, ')}")


def described(error: BaseException) -> str:
    """An error of others with its type and its notes, on one printable line: ``RuntimeError: as asked``."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 -- its own text may fail
        text = "its message cannot be shown"
    if isinstance(error, SystemExit):
        text = f"a plugin ended the program ({text})"
    text = "; ".join([text.strip() or "no message", *notes(error)])
    return line(f"{type(error).__name__}: {text}")


def notes(error: BaseException) -> list[str]:
    """What was added to an error with `BaseException.add_note`."""
    return [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]


def shortened(text: str) -> str:
    """The text on one line of at most 300 printable characters, for untrusted text."""
    return line(text)[:300]
