"""Counts in sentences."""

from __future__ import annotations


def plural(count: int, one: str, many: str = "") -> str:
    """A count and what is counted: ``1 image``, ``2 images``.

    ``many`` is said of other counts than 1, where that is not ``one`` with an s: ``plural(n, "is", "are")``.
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"
