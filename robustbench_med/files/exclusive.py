"""Work that only one process at a time may do, as the training of one part, whose checkpoints have one place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from robustbench_med.errors import Note, StoreError


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """While this process alone may make ``path``; ``what`` that is, in words. Waits for another process, and says so.

    Raises:
        StoreError: the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            warnings.warn(f"{what} is being made by another process, for which this one waits", Note, stacklevel=3)
            lock.acquire()
    except NotImplementedError as error:
        raise StoreError(f"cannot make {path}: its file system has no locks ({error})") from None
    try:
        yield
    finally:
        lock.release()
