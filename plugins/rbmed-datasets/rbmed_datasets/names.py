"""Names of files as text that can be printed and stored."""

from __future__ import annotations

import os
from pathlib import Path


def printable(path: Path | str) -> str:
    r"""A name as valid Unicode: bytes of it that are not UTF-8 are written ``\xe4``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
