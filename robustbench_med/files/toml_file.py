"""TOML files from users: found by path or by name, and read as untrusted input."""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path
from typing import Any

from robustbench_med.errors import BadConfig
from robustbench_med.files.checkout import published

#: Folder of the configurations that can be given by name.
NAMED = Path("configs")
#: Largest size in bytes.
LARGEST = 1 << 20


def locate(file: Path) -> Path:
    """The configuration ``file``: a path, or the name of one in `NAMED`, here or among those published.

    Raises:
        BadConfig: there is no such file.
    """
    if file.is_file():
        return file
    folders = [NAMED, *filter(None, [published(NAMED.name)])]
    if not file.is_absolute() and ".." not in file.parts:
        for folder in folders:
            if (named := folder / file.parent / f"{file.name}.toml").is_file():
                return named
    if file.exists():
        raise BadConfig(f"configuration {file} is not a file")
    found = {
        path.relative_to(folder).with_suffix("").as_posix() for folder in folders for path in folder.rglob("*.toml")
    }
    known = ", ".join(sorted(found)) or "none"
    raise BadConfig(f"configuration {file} cannot be read: there is no such file; by name in {NAMED}: {known}")


def read(file: Path) -> dict[str, Any]:
    """The contents of the file.

    Raises:
        BadConfig: it cannot be read, is larger than `LARGEST` or is not TOML.
    """
    try:
        with file.open("rb") as source:
            data = source.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise BadConfig(f"configuration {file} is larger than {LARGEST >> 20} MiB")
        return tomllib.loads(_text(data))
    except OSError as error:
        raise BadConfig(f"configuration {file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise BadConfig(f"configuration {file} is not TOML: {error}") from None
    except RecursionError:
        raise BadConfig(f"configuration {file} cannot be read: it is nested too deeply") from None


def _text(data: bytes) -> str:
    """The text of a file; Windows tools begin one with a byte order mark.

    Raises:
        ValueError: it is not UTF-8.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # also the beginning of UTF-32
        raise ValueError("it is written in UTF-16; save it as UTF-8")
    return data.decode("utf-8-sig")
