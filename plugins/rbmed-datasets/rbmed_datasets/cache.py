"""Cache under ``RBMED_HOME``: digests of folders, and decoded images by digest."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med import home
from robustbench_med.errors import DataError


def digest_of(*parts: object) -> str:
    """blake2b hex digest (32 digits) of anything with a stable ``str``."""
    return hashlib.blake2b(_bytes("\x1f".join(map(str, parts))), digest_size=16).hexdigest()


def _bytes(text: str) -> bytes:
    """UTF-8; names of files that are not UTF-8 keep their bytes."""
    return text.encode("utf-8", "surrogateescape")


def content_digest(
    root: Path, named: Iterable[tuple[str, Path]], facts: Callable[[Path], str] = lambda path: ""
) -> str:
    """Digest of the names and bytes of files of the data set in ``root``, and of ``facts`` about them.

    The result is cached by the files' sizes and times of change, so unchanged files are read once. A fact is how a file
    is read where that has changed; most have none.

    Raises:
        DataError: a file cannot be read.
    """
    ordered = sorted(named)
    total = hashlib.blake2b(digest_size=16)
    try:
        states = [(name, (stat := path.stat()).st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, path in ordered]
        known = home() / "datasets" / "digests" / digest_of(root.resolve(), states, 4)
        with suppress(OSError):
            return known.read_text(encoding="ascii")
        for name, path in ordered:
            fact = facts(path)
            told = f"\x1f{fact}" if fact else ""
            total.update(_bytes(f"{name}\x1f{hashlib.blake2b(path.read_bytes()).hexdigest()}{told}\x1e"))
    except OSError as error:
        raise DataError(f"cannot read {error.filename or root}: {error.strerror}") from error
    _write(known, lambda file: file.write(total.hexdigest().encode("ascii")))
    return total.hexdigest()


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ``arrays`` to ``path`` (npz); readers see the whole file or none."""
    _write(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]] | None:
    """The arrays ``names`` of ``path``, or None where the file is missing or damaged; others are not loaded."""
    try:
        # Opened here because np.load leaves the file open where the archive is damaged.
        with path.open("rb") as file:
            if any(info.compress_type != zipfile.ZIP_STORED for info in zipfile.ZipFile(file).infolist()):
                return (
                    None  # not written by `save`, which does not compress: a small file cannot unpack to a huge array
                )
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile):
        return None


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Fill a temporary file beside ``path``, then rename it, so that no partial file is left."""
    part: IO[bytes] | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            fill(part)
        Path(part.name).replace(path)
    except OSError as error:
        reason = f"cannot write the cache {path}: {error.strerror}"
        raise DataError(f"{reason}; set RBMED_HOME to a writable folder") from error
    finally:
        if part is not None:
            Path(part.name).unlink(missing_ok=True)
