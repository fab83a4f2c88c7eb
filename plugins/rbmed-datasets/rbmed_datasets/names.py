"""Names of files as text that can be printed and stored."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from robustbench_med.errors import DataError


def printable(path: Path | str) -> str:
    r"""A name as valid Unicode: bytes of it that are not UTF-8 are written ``\xe4``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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
