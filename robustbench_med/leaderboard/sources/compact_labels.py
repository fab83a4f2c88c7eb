"""Classes of images as letters, and rows of a test split as ranges: few bytes an image."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from robustbench_med.interfaces.plural import plural

#: Letters of classes, in their order.
CLASSES = string.digits + string.ascii_lowercase
#: Stands for an abstention.
ABSTAINED = -1
#: Stands for an answer that is not finite, which is wrong.
_NOT_FINITE = -2
_NONE = -128
_TABLE = np.full(256, _NONE, dtype=np.int8)
_TABLE[[ord(char) for char in CLASSES]] = range(len(CLASSES))
_TABLE[ord("-")] = ABSTAINED
_TABLE[ord("?")] = _NOT_FINITE
#: The letter of each code that is no class.
LETTERS = {ABSTAINED: "-", _NOT_FINITE: "?"}
#: As in names of clients in records.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_RANGE = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?", re.ASCII)


def text_of(codes: Iterable[int]) -> str:
    """Classes as letters."""
    return "".join(LETTERS.get(int(code)) or CLASSES[code] for code in codes)


def classes_of(text: str, n: int) -> npt.NDArray[np.int8]:
    """Letters of ``n`` images as classes, int8 (N,).

    Raises:
        ValueError: there are others than ``n``, or one is no class.
    """
    if len(text) != n:
        raise ValueError(f"there {'is' if n == 1 else 'are'} {plural(n, 'image')}, and answers to {len(text)}")
    if not text.isascii():
        raise ValueError(f"{next(letter for letter in text if not letter.isascii())!a} is no class")
    codes = _TABLE[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]
    if (codes == _NONE).any():
        raise ValueError(f"{text[int((codes == _NONE).argmax())]!r} is no class")
    return np.asarray(codes)


def ranges(index: Iterable[int]) -> str:
    """``(1, 2, 3, 7)`` as ``1-3,7``."""
    parts: list[list[int]] = []
    for row in index:
        if parts and row == parts[-1][1] + 1:
            parts[-1][1] = row
        else:
            parts.append([row, row])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


@lru_cache(maxsize=8)
def rows_of(text: str, most: int) -> tuple[int, ...]:
    """The inverse of `ranges`, for at most so many rows; thousands of lines are of the same rows.

    Raises:
        ValueError: it is written otherwise, or there are more.
    """
    rows: list[int] = []
    for part in text.split(","):
        found = _RANGE.fullmatch(part)
        first, last = (int(each) for each in (found[1], found[2] or found[1])) if found else (1, 0)
        if not first <= last < 2**31 or (rows and first <= rows[-1]):
            raise ValueError(f"index: {part!r:.60} is no range of rising rows")
        if len(rows) + last - first >= most:
            raise ValueError(f"index: there are more rows than {most}")
        rows.extend(range(first, last + 1))
    return tuple(rows)


def rows_by_owner(index: Sequence[int], owners: Sequence[str]) -> dict[str, str]:
    """``{"a": "0-3,7"}``: which rows are whose."""
    rows: dict[str, list[int]] = {}
    for row, owner in zip(index, owners, strict=True):
        rows.setdefault(owner, []).append(row)
    return {owner: ranges(own) for owner, own in sorted(rows.items())}


def owners_by_row(facts: Mapping[str, str], index: Sequence[int]) -> tuple[str, ...]:
    """The inverse of `rows_by_owner`: the owner of each of these rows.

    Raises:
        ValueError: a row has none or two, or is none of these.
    """
    found: dict[int, str] = {}
    for owner, text in facts.items():
        if len(owner) > 1000 or _CONTROLS.search(owner):
            raise ValueError(f"{owner!r:.60} is no name of an owner")
        for row in rows_of(text, len(index)):
            if row in found:
                raise ValueError(f"row {row} is of {found[row]!r:.60} and of {owner!r:.60}")
            found[row] = owner
    if missing := [row for row in index if row not in found]:
        raise ValueError(f"row {missing[0]} is of no one")
    if len(found) > len(index):
        raise ValueError("there are owners of rows that are not there")
    return tuple(found[row] for row in index)
