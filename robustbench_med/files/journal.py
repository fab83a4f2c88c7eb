"""A file of lines that several processes append to, robust to crashes, full disks and invalid lines.

A line is appended atomically: under a lock, and synced to the disk before the lock is released. An invalid line (cut
off by a power failure, or written by another program) is moved to ``NAME.quarantine.jsonl`` in the same folder, with
the reason, before the next line is appended. Reading changes nothing: it skips such lines and reports them.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from robustbench_med.errors import StoreError, StoreWarning, shortened
from robustbench_med.files import jsonl
from robustbench_med.files.atomic import replacing, store_errors, sync_folder
from robustbench_med.files.locks import lock_of, locked

T = TypeVar("T")
#: Seconds to wait for another process; adding a line takes milliseconds.
LOCK_TIMEOUT = 60.0


@dataclass(frozen=True)
class InvalidLine:
    """An invalid line: its number (from 1), its bytes, and the reason."""

    number: int
    line: bytes
    reason: str


@dataclass(frozen=True)
class _Seen:
    """The checked part of a file: inode, number of bytes and lines, and the last of these bytes."""

    inode: int = -1
    size: int = 0
    lines: int = 0
    tail: bytes = b""


_seen: dict[Path, _Seen] = {}
_FLAGS = os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def quarantine_of(path: Path) -> Path:
    """The file with the invalid lines of ``path``."""
    return path.with_name(f"{path.stem}.quarantine.jsonl")


def append(path: Path, line: str, check: Callable[[bytes], object]) -> None:
    """Add one line.

    Args:
        path: the file; it and its folder are created if they are missing.
        line: without line end.
        check: raises `ValueError`, with the reason, for an invalid line.

    Raises:
        StoreError: it cannot be written, or another process keeps the lock. The file is unchanged.
    """
    path = path.absolute()
    with store_errors(path), locked(path, LOCK_TIMEOUT):
        for each in (path, quarantine_of(path)):
            if each.is_symlink():
                # A link in a folder from someone else would choose where we write.
                raise StoreError(f"{each} is a symbolic link; results are written to real files only, so remove it")
        seen, data = _sweep(path, check), line.encode() + b"\n"
        inode = _add(path, data)
        _seen[path] = _Seen(inode, seen.size + len(data), seen.lines + 1, data[-64:])


def read(path: Path, parse: Callable[[bytes], T]) -> tuple[list[T], list[InvalidLine]]:
    """The parsed lines of a file, plain or compressed, and those that ``parse`` rejects with a `ValueError`.

    Raises:
        OSError: the file cannot be read.
    """
    path = path.absolute()
    with jsonl.opened(path) as file:
        good, bad = _sorted(file, parse)
    if bad and lock_of(path).is_file():
        # The last line may be one that is being written right now.
        with suppress(StoreError), locked(path, LOCK_TIMEOUT), jsonl.opened(path) as file:
            good, bad = _sorted(file, parse)
    return good, bad


def warn(path: Path, bad: Sequence[InvalidLine], what: str = "skipped") -> None:
    """Warn about invalid lines and say how they were handled."""
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    named = "; ".join(f"line {each.number} is not a record ({each.reason[:120]})" for each in bad[:3])
    warnings.warn(f"{path}: {named}{more}: {what}", StoreWarning, stacklevel=3)


def _sorted(every: Iterable[bytes], parse: Callable[[bytes], T], first: int = 1) -> tuple[list[T], list[InvalidLine]]:
    """Parsed lines and invalid lines; empty lines are ignored."""
    good: list[T] = []
    bad: list[InvalidLine] = []
    for number, ended in enumerate(every, first):
        if (line := ended.removesuffix(b"\n")).strip():
            try:
                good.append(parse(line))
            except ValueError as error:
                bad.append(InvalidLine(number, line, shortened(str(error))))
    return good, bad


def _sweep(path: Path, check: Callable[[bytes], object]) -> _Seen:
    """Move the invalid ones of the unchecked lines to quarantine; return the new state of the file."""
    if not path.exists():
        return _Seen()
    with path.open("rb") as file:
        status, seen = os.fstat(file.fileno()), _seen.get(path, _Seen())
        known = file.read(seen.size) if seen.inode == status.st_ino else b""
        if len(known) < seen.size or not known.endswith(seen.tail):  # another file has replaced it
            known, seen = b"", _Seen()
            file.seek(0)
        rest = file.read()

    def good_line(line: bytes) -> bytes:
        check(line)
        return line

    good, bad = _sorted(rest.split(b"\n"), good_line, seen.lines + 1)
    if bad:
        _set_aside(path, bad)
    if bad or (rest and not rest.endswith(b"\n")):
        rest = b"".join(line + b"\n" for line in good)
        with replacing(path) as draft:
            draft.write_bytes(known + rest)
    if bad:
        warn(path, bad, f"set aside in {quarantine_of(path)}")
    data = known + rest
    return _Seen(path.stat().st_ino, len(data), seen.lines + rest.count(b"\n"), data[-64:])


def _set_aside(path: Path, bad: Sequence[InvalidLine]) -> None:
    """Append invalid lines to the quarantine; they are removed afterwards, so that a crash loses none."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    kept = []
    for each in bad:
        facts: dict[str, object] = {"line": each.number, "reason": each.reason, "set_aside": now}
        try:
            facts["text"] = each.line.decode()
        except UnicodeDecodeError:
            facts["base64"] = base64.b64encode(each.line).decode()
        kept.append(json.dumps(facts).encode() + b"\n")
    _add(quarantine_of(path), b"".join(kept))


def _add(path: Path, data: bytes) -> int:
    """Append bytes, all or none, and sync them; return the file's inode."""
    new = not path.exists()
    handle = os.open(path, os.O_WRONLY | _FLAGS, 0o644)
    try:
        status = os.fstat(handle)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, status.st_size)
            raise
    finally:
        os.close(handle)
    if new:
        sync_folder(path.parent)
    return status.st_ino
