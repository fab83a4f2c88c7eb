"""What is said of files from strangers that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydantic

from robustbench_med.errors import DataError, first_fault, shortened


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Say in one line what is wrong with a file that is read as a ``kind``, such as a submission.

    Raises:
        DataError: the file cannot be read, or what it says is none.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{kind} {path} cannot be read: {error.strerror or error}") from None
    except pydantic.ValidationError as error:
        raise DataError(f"{path} is no {kind}: {first_fault(error)}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no {kind}: {shortened(str(error))}") from None


def is_there(path: Path, kind: str) -> bool:
    """Whether a file that may be missing is there.

    Raises:
        DataError: something else has its name, which would be passed over without a word.
    """
    if not path.is_file() and os.path.lexists(path):
        raise DataError(f"{kind} {path} cannot be read: it is a folder, a device or a link to nothing, not a file")
    return path.is_file()
