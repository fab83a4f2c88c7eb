"""Digests of the tensors in a file, whatever the file looks like.

The same tensors can be written in another order, with metadata, or by another version of a library. Their digest is
that of one canonical form: the safetensors format without metadata, tensors ordered by their type (widest first) and
then by name. That is what safetensors itself writes today, so the digest of a file that it wrote is the digest of the
file's bytes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

#: Types in the canonical order; one that is not here comes after them, by its name.
TYPES = (
    *("U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16"),
    *("U16", "I16", "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"),
)
#: Bytes of the header's length, and what the header is padded to.
_WORD = 8


def digest_tensors(path: Path) -> str:
    """blake2b hex digest (32 bytes) of the tensors of a safetensors file: names, types, shapes and values.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        with safe_open(path, "np"):  # checks the header: ranges inside the file, without holes or overlaps
            pass
    except SafetensorError as error:
        raise ValueError(f"not in safetensors format: {error}") from None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = _WORD + int.from_bytes(data[:_WORD], "little")
        found: dict[str, Any] = json.loads(data[_WORD:start])
        found.pop("__metadata__", None)
        names = sorted(found, key=lambda name: (*_place(found[name]["dtype"]), name))
        header, place = {}, 0
        for name in names:
            low, high = found[name]["data_offsets"]
            facts = {"dtype": found[name]["dtype"], "shape": found[name]["shape"]}
            header[name] = {**facts, "data_offsets": [place, place + high - low]}
            place += high - low
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _WORD)
        made = hashlib.blake2b(len(text).to_bytes(_WORD, "little") + text, digest_size=32)
        for name in names:
            low, high = found[name]["data_offsets"]
            made.update(data[start + low : start + high])
    return made.hexdigest()


def _place(kind: str) -> tuple[int, str]:
    return (TYPES.index(kind) if kind in TYPES else len(TYPES), kind)
