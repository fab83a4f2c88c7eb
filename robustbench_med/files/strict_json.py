"""JSON from strangers, read in one way only: what two readers would read differently is refused."""

from __future__ import annotations

import json
from typing import Any


def strict_json(text: str | bytes) -> Any:
    """What a text says.

    Raises:
        ValueError: it is no JSON, a key is there twice in one object, of which some readers take the first and some the
            last, or a number is none that JSON has: NaN or infinite.
    """
    return json.loads(text, object_pairs_hook=_once, parse_constant=_refused)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise ValueError(f"the key {twice!r:.60} is there twice")
    return found


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")
