"""Small files of facts and tensors with a checksum, without pickle.

The first line is a digest of the rest and of a stamp, which identifies the code and hardware that wrote the file. A
file that is incomplete, damaged or has another stamp is treated as missing.
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
    # Copies: tensors may be views of each other, which safetensors rejects.
    parts = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return json.dumps(facts).encode() + b"\n" + safetensors.torch.save(parts)


def unpack(data: bytes) -> tuple[Any, dict[str, Tensor]]:
    """The facts and tensors in the bytes that `pack` made.

    Raises:
        ValueError: the bytes are not from `pack`.
    """
    line, _, rest = data.partition(b"\n")
    try:
        return json.loads(line), safetensors.torch.load(rest)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


def write(path: Path, data: bytes, stamp: str, *, sync: bool = False) -> None:
    """Write a file atomically; with ``sync`` it survives a power failure.

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
    """The data of an undamaged file with this stamp; None for any other or a missing file."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if digest == _digest(data, stamp) else None


def _digest(data: bytes, stamp: str) -> bytes:
    made = hashlib.blake2b(stamp.encode() + b"\0", digest_size=32)
    made.update(data)
    return made.hexdigest().encode()
