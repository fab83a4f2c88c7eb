"""JSON from strangers, read in one way only: what two readers would read differently is refused."""

from __future__ import annotations

import json
import math
import re
import stat
from pathlib import Path
from typing import Any

import pydantic_core

#: A file of the largest ladder is some 100 kB.
LARGEST = 64 << 20
#: Quotes and colons by their number, white space before a colon, and numbers that may have more than 64 bits.
_UNUSUAL = re.compile(rb"\\u00(?:22|3[aA])|[ \t\r\n]:|\d{19}")


def strict_json(text: str | bytes) -> Any:
    """What a text says.

    Raises:
        ValueError: it is no JSON, a key is there twice in one object, of which some readers take the first and some the
            last, or a number is none that every reader has: NaN, infinite, or of more than 64 bits.
    """
    return json.loads(
        text, object_pairs_hook=_once, parse_constant=_refused, parse_float=_finite, parse_int=_of_64_bits
    )


def check_strict(line: bytes) -> None:
    """Raise what `strict_json` would of a text that another reader took; most texts take a fraction of its time.

    A key that is there twice is written once by a reader that takes the last, so that its text has fewer keys, unless
    they are written in an unusual way.
    """
    try:
        again = pydantic_core.to_json(pydantic_core.from_json(line, allow_inf_nan=False), inf_nan_mode="constants")
        usual = not _UNUSUAL.search(line) and b"Infinity" not in again
        if usual and line.count(b'":') == again.count(b'":'):
            return
    except ValueError:
        pass
    strict_json(line)


def strict_file(path: Path) -> Any:
    """What a file says, as `strict_json`.

    Raises:
        OSError: it cannot be read.
        ValueError: it says nothing, or is no file of an ordinary size: a link of a stranger may lead to a device.
    """
    return strict_json(ordinary_bytes(path))


def ordinary_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a device or a pipe, which may never end, or larger than `LARGEST`.
    """
    if size_of(path) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    return path.read_bytes()


def size_of(path: Path) -> int:
    """The size of a file in bytes; raises as `ordinary_bytes`."""
    facts = path.stat()
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise ValueError("it is a device or a pipe, not a file")
    return facts.st_size


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise ValueError(f"the key {twice!r:.60} is there twice")
    return found


def _refused(word: str) -> Any:
    raise ValueError(f"{word:.20} is no number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(found := float(text)):
        raise ValueError(f"the number {text:.20} is too large")
    return found


def _of_64_bits(text: str) -> int:
    # Twenty characters hold every such number; Python itself gives up on thousands of digits.
    if len(text) > 20 or not -(2**63) <= (found := int(text)) < 2**63:
        raise ValueError(f"the number {text:.20} is too large")
    return found
