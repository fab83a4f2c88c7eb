"""Atomic writes of files and folders, also in a crash or a power failure.

The content is written next to its target, synced to the disk, and renamed.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robustbench_med.errors import BadParameter, StoreError

#: What the system says of a disk, a quota or a file that is full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that becomes ``path`` when the block succeeds, and is removed when it fails.

    A symbolic link at ``path`` is replaced, never followed.

    Raises:
        StoreError: the disk is full or the folder is read-only.
    """
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        draft = Path(name)
        try:
            os.close(handle)
            yield draft
            draft.chmod(0o644)  # mkstemp made it private; weights and records must be readable by others
            _sync(draft)
            draft.replace(path)
            sync_folder(path.parent)
        finally:
            draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file.

    Raises:
        StoreError: it cannot be written.
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block succeeds, and is removed when it fails.

    Of two that are written at once, the one that finishes last is kept.

    Raises:
        StoreError: it cannot be created or renamed.
    """
    with store_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    old = draft.with_name(f"{draft.name}.old")
    try:
        yield draft
        with store_errors(target):
            draft.chmod(0o755)
            while True:
                if target.exists() or target.is_symlink():
                    with suppress(FileNotFoundError):  # another process was faster
                        target.rename(old)
                try:
                    draft.rename(target)
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    _remove(old)  # another process has renamed its own in between
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        _remove(old)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def check_writable(path: Path) -> None:
    """Check that the folder ``path`` can be created and written to, without changing anything.

    Raises:
        BadParameter: it cannot be created or written to.
        StoreError: the disk is full.
    """
    _try(path, path.absolute())


def check_file(path: Path) -> None:
    """Check that the file ``path`` can be created or replaced, without changing anything.

    Raises:
        BadParameter: it is a folder or a device, or its folder cannot be created or written to.
        StoreError: the disk is full.
    """
    _try(path, path.absolute().parent)
    if path.is_dir():
        raise BadParameter(f"--out {path} is a folder; name a file")
    if path.exists() and not path.is_file():
        raise BadParameter(f"--out {path} is no regular file; name another")


def _try(path: Path, there: Path) -> None:
    """Write a file without a name in the folder ``there``, or in the first one above it that exists."""
    while not os.path.lexists(there):
        there = there.parent
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # a name that is too long
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
    except OSError as error:
        if error.errno in FULL:
            raise StoreError(f"--out {path} cannot be written: {there}: {error.strerror}") from None
        raise BadParameter(f"--out {path} cannot be written: {there}: {error.strerror or error}") from None


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into one line that names ``path``."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; the previous content is kept") from error


def sync_folder(path: Path) -> None:
    """Sync a folder, so that a new name in it survives a power failure, if the file system supports it."""
    with suppress(OSError):  # not every file system lets a folder be synced
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
