"""Names of files as text that can be printed and stored."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from robustbench_med.errors import DataError

#: How names of files begin that are not the user's: hidden ones, and those by which office programs lock a file.
IGNORED = (".", "~$")
#: What tools write for a missing value.
MISSING = ("nan", "-nan", "<na>", "na", "n/a", "#na", "#n/a", "nat", "null")


def printable(path: Path | str) -> str:
    r"""A name as valid Unicode: bytes of it that are not UTF-8 are written ``\xe4``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def split_at_plus(text: str) -> tuple[str, ...]:
    """``a+b`` as its parts. A name may end with plus signs: ``0+1++2+`` is 0, 1+ and 2+."""
    return tuple(re.split(r"(?<=.)\+(?=[^+])", text, flags=re.DOTALL))


def rejoined(parts: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """The names of which a text was made, where a plus sign or a comma inside of one has cut it: ``ER+/PR+``.

    Args:
        parts: of the text.
        known: names that there are. Parts that cannot be joined to such are returned as they are.
    """
    if all(part in known for part in parts):
        return tuple(parts)
    found: list[tuple[str, ...] | None] = [()]  # of the last n parts
    for first in reversed(range(len(parts))):
        made = None
        for end in range(len(parts), first, -1):
            rest = found[len(parts) - end]
            names = {sign.join(parts[first:end]) for sign in ("+", ",", ", ")} & set(known)
            if made is None and rest is not None and names:
                made = (min(names), *rest)
        found.append(made)
    return found[-1] or tuple(parts)


def regex(value: str | None) -> str | None:
    """``value``; `ValueError` if it is no regular expression."""
    try:
        re.compile(value or "")
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


def matched(what: str, expression: str, names: Sequence[str]) -> list[str]:
    """What a regular expression finds in each name: its group ``what``, else its first group, else the whole match.

    Raises:
        DataError: it finds nothing in a name.
    """
    pattern, found, lost = re.compile(expression), [], []
    group = what if what in pattern.groupindex else min(pattern.groups, 1)
    for name in names:
        match = pattern.search(name)
        if match and match[group]:
            found.append(match[group])
        else:
            lost.append(name)
    if lost:
        raise DataError(f"{what}={expression} finds nothing in {len(lost)} paths, {lost[0]!r} for example")
    return found


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
