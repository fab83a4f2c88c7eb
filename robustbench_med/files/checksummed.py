"""Small files that say themselves whether they are whole, and what they hold: facts and tensors. Never pickles.

The first line is a digest of the rest and of a stamp: what else has to be as it was when the file was written. A file
that is torn, damaged or from another time is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor


def pack(facts: Any, tensors: Mapping[str, Tensor]) -> bytes:
    """JSON-serialisable facts and tensors as bytes."""
    # Copies: verdicts may be views of each other, which safetensors refuses.
    parts = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return json.dumps(facts).encode() + b"\n" + safetensors.torch.save(parts)


def unpack(data: bytes) -> tuple[Any, dict[str, Tensor]]:
    """What was packed.

    Raises:
        ValueError: this was not packed here.
    """
    line, _, rest = data.partition(b"\n")
    try:
        return json.loads(line), safetensors.torch.load(rest)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


def write(path: Path, data: bytes, stamp: str, *, sync: bool = False) -> None:
    """Write a file whole or not at all; with ``sync`` it survives a power cut.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(data, stamp) + b"\n" + data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read(path: Path, stamp: str) -> bytes | None:
    """The data of a file that is whole and bears this stamp; None for any other, or where there is none."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if digest == _digest(data, stamp) else None


def _digest(data: bytes, stamp: str) -> bytes:
    made = hashlib.blake2b(stamp.encode() + b"\0", digest_size=32)
    made.update(data)
    return made.hexdigest().encode()
