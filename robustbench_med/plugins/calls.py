"""Calls of the code of a plugin: what they may not change outlives none of them, and no message goes unnamed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustbench_med.errors import RbmedError, notes

#: The standard streams as each open block found them, with the thread that it is in.
_OPEN: list[tuple[int, tuple[Any, Any]]] = []
_LOCK = threading.Lock()
#: How the note begins that says which component raised an error.
RAISED = "raised by"


@contextmanager
def process_kept() -> Iterator[None]:
    """Within the block the code of a plugin runs; what it changes of the process does not outlive it.

    Restored are the working directory, since the folder of results may be a relative path, the limit of recursion and
    the standard streams. Within the block standard output is standard error: what a part prints would be among the
    results, which programs read. After the last block they are as before the first, also where threads overlap.
    """
    folder, limit = _here(), sys.getrecursionlimit()
    with _LOCK:
        streams = _streams()
        block = (threading.get_ident(), streams)
        _OPEN.append(block)
        sys.stdout = streams[1]
    try:
        yield
    finally:
        with _LOCK:
            _OPEN.remove(block)
            sys.stdout, sys.stderr = streams
        if sys.getrecursionlimit() != limit:
            sys.setrecursionlimit(limit)
        if folder is not None and _here() != folder:
            os.chdir(folder)


def _streams() -> tuple[Any, Any]:
    """The standard streams; in the first block of a thread those of before the blocks of others."""
    here = threading.get_ident()
    others = [streams for thread, streams in _OPEN if thread != here]
    first = all(thread != here for thread, _ in _OPEN)
    return others[0] if others and first else (sys.stdout, sys.stderr)


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return None


@contextmanager
def naming(kind: str, component: Any) -> Iterator[None]:
    """Within the block ``component`` is asked: an error of its code says so in a note, which `errors.described` shows.

    The error keeps its type. Of components that ask another one, the innermost is named.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, RbmedError) and not any(note.startswith(RAISED) for note in notes(error)):
            error.add_note(f"{RAISED} {named(kind, component)}")
        raise


def named(kind: str, component: Any) -> str:
    """A component as messages name it: ``purifier 'blur' (my_plugin:Blur)``, or ``classifier Net (my_plugin)``."""
    cls, name = type(component), getattr(component, "spec_name", "")
    if not name:
        return f"{kind} {cls.__name__} ({cls.__module__})"
    return f"{kind} {name!r} ({cls.__module__}:{cls.__qualname__})"
