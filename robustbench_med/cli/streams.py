"""Standard output and error that nobody reads any more, or that cannot be written to.

A closed pipe (``rbmed table results | head``) is no error: what is left to say is dropped, and a run goes on. A full
disk is one: it is said once, and the exit code is 1.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from robustbench_med.errors import StoreError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from robustbench_med.cli.loading_line import Waiting


class _Raw(io.FileIO):
    """A file descriptor that is written to for as long as it takes anything."""

    def __init__(self, descriptor: int, waiting: Waiting | None) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.gone, self.waiting = False, waiting

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        if self.waiting is not None:
            self.waiting.ended()
        if self.gone:
            return size
        try:
            return super().write(data) or 0
        except OSError as error:
            self.gone = True
            if isinstance(error, BrokenPipeError) or self.fileno() == 2:  # nowhere is left to say it
                return size
            raise StoreError(f"cannot write to standard output: {error.strerror or error}") from None


def prepare(waiting: Waiting | None = None) -> None:
    """Take over the program's streams; text that their encoding does not have is written as escapes.

    ``waiting`` is told before the first output.
    """
    for descriptor in (0, 1, 2):  # closed ones would be given to the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = (_taken_over(stream, at, waiting) for at, stream in ((1, sys.stdout), (2, sys.stderr)))


def _taken_over(stream: TextIO | None, descriptor: int, waiting: Waiting | None) -> TextIO:
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Raw(descriptor, waiting)),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )


def finished(code: str | int | None) -> str | int | None:
    """Write what is left; the exit code of a program that would end with ``code``."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except StoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return code or 1
    return code
