"""Work that is shared out over the cores: by this process and forks of it, which have all that was read already.

The result is the same on any number of cores, and so is the error: where anything goes wrong in a fork, this process
does its part itself.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

T = TypeVar("T")
#: Pieces of work below which a fork costs more than it saves.
LEAST = 200
#: Parts that are taken one after the other by whoever is free; one byte says which.
_PARTS = 256


def done(work: Callable[[int], T], count: int, known: Sequence[object] = (), cores: int | None = None) -> list[T]:
    """``[work(0), ..., work(count - 1)]``.

    Args:
        work: has no side effects, and returns what can be pickled.
        count: how often it is called.
        known: objects that results refer to and that are not copied; nothing else may tell them from their copies.
        cores: how many may be used; by default all that this process has, or one for little work.
    """
    cores = _available() if cores is None and count >= LEAST else cores or 1
    if cores < 2 or not _may_fork():
        return [work(at) for at in range(count)]
    size = -(-count // _PARTS)
    parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
    taken, tokens = os.pipe()
    with os.fdopen(tokens, "wb") as pipe:
        pipe.write(bytes(range(len(parts))))

    def share() -> dict[int, list[T]]:
        """What this process did, by part, until none was left."""
        found = {}
        while token := os.read(taken, 1):
            found[token[0]] = [work(at) for at in parts[token[0]]]
        return found

    try:
        with _forks(lambda: _dumped(share(), known), min(cores, len(parts)) - 1) as others:
            found = share()
            for read in others:
                found |= _loaded(read(), known)
    except Exception:  # noqa: BLE001 -- whichever came first in time; that which comes first in order is raised below
        found = {}
    finally:
        os.close(taken)
    return [each for at, part in enumerate(parts) for each in (found.get(at) or [work(one) for one in part])]


def _available() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _may_fork() -> bool:
    """On Linux alone, where no other thread could hold a lock at this moment."""
    return sys.platform == "linux" and threading.active_count() == 1


@contextmanager
def _forks(work: Callable[[], bytes], count: int) -> Iterator[list[Callable[[], bytes]]]:
    """Processes that do this, and what reads the result of each; b"" of one that came to grief."""
    started: list[tuple[int, int]] = []
    try:
        for _ in range(count):
            read, write = os.pipe()
            with warnings.catch_warnings():
                # Threads of numpy's BLAS, which are ready for a fork.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if not child:
                _in_fork(work, write)
            os.close(write)
            started.append((child, read))
        yield [partial(_all, read) for _, read in started]
    finally:
        for child, read in started:
            os.close(read)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _in_fork(work: Callable[[], bytes], write: int) -> None:
    """Never returns, and says nothing: what failed here is done again, and fails, where it can be said."""
    try:
        made = work()
        with os.fdopen(write, "wb") as pipe:
            pipe.write(made)
    finally:
        os._exit(0)


def _all(read: int) -> bytes:
    with os.fdopen(read, "rb", closefd=False) as pipe:
        return pipe.read()


def _dumped(found: Any, known: Sequence[object]) -> bytes:
    """Pickled; of known objects only which they are."""
    numbers = {id(each): at for at, each in enumerate(known)}

    def reduced(each: Any) -> Any:
        at = numbers.get(id(each))
        return each.__reduce_ex__(5) if at is None else (_known, (at,))

    file = BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    pickler.dispatch_table = dict.fromkeys({type(each) for each in known}, reduced)
    pickler.dump(found)
    return file.getvalue()


def _known(at: int) -> object:
    """Stands for a known object in what is pickled."""
    raise LookupError(at)


def _loaded(data: bytes, known: Sequence[object]) -> Any:
    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return known.__getitem__ if (module, name) == (__name__, "_known") else super().find_class(module, name)

    return Unpickler(BytesIO(data)).load() if data else {}
