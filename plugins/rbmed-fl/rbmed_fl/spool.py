"""Replies that wait on disk until a round is merged, so that memory does not grow with the number of clients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.numpy
from flwr.app import Array, ArrayRecord, Message
from flwr.common import NDArray
from safetensors import safe_open


class StoredArray(Array):
    """An array that is read when it is asked for, and not kept.

    Flower copies arrays that are given to ``ArrayRecord(...)``; this one has to be assigned to an entry.

    Args:
        path: a safetensors file.
        name: of its entry.
        like: its type and shape.
    """

    def __init__(self, path: Path, name: str, like: Array) -> None:
        super().__init__(like.dtype, like.shape, like.stype, b"")
        self._path = path
        self._name = name

    def numpy(self) -> NDArray:
        """See `Array`."""
        with safe_open(self._path, framework="numpy") as file:
            value: NDArray = file.get_tensor(self._name)
        return value


class Spool:
    """Stores the arrays of replies in files of one folder, which each reply's next one replaces.

    Args:
        folder: exists as long as the replies are used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, client: int, reply: Message) -> None:
        """Replace the arrays of a reply by ones on disk; ``client`` is a number of its own for each client."""
        if reply.has_error():
            return
        for key, record in reply.content.array_records.items():
            if record:
                reply.content[key] = self._stored(self._folder / f"{client}-{key}.safetensors", record)

    def _stored(self, path: Path, record: Mapping[str, Array]) -> ArrayRecord:
        safetensors.numpy.save_file({name: array.numpy() for name, array in record.items()}, path)
        stored = ArrayRecord()
        for name, array in record.items():
            stored[name] = StoredArray(path, name, array)
        return stored
