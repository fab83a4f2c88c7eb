"""What only one process at a time may make: a file of records, a trained part, whose checkpoints have one place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from robustbench_med.errors import Note, StoreError
from robustbench_med.files.atomic import store_errors


def lock_of(path: Path) -> Path:
    """The file whose lock stands for ``path``."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(path: Path, timeout: float = 0.0, wait: str = "") -> Iterator[None]:
    """While no other process that asks holds ``path``.

    Args:
        path: what is made; its folder is created if it is missing.
        timeout: seconds to wait for another process.
        wait: what is made, in words: then this process waits as long as it takes, and says so.

    Raises:
        StoreError: another process holds it, or the file system has no locks or cannot be written to.
    """
    lock = FileLock(lock_of(path))
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            if not wait:
                raise StoreError(f"cannot write {path}: another process has locked it for {timeout:.0f} s") from None
            warnings.warn(f"{wait} is being made by another process, for which this one waits", Note, stacklevel=3)
            lock.acquire()
        except NotImplementedError as error:
            # Two processes that write the same file at once would damage it.
            raise StoreError(f"cannot write {path}: its file system has no locks ({error})") from None
    try:
        yield
    finally:
        lock.release()
