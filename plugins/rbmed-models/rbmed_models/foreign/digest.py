"""A digest of files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def digest_of(files: Mapping[str, Path]) -> str:
    """16 hex digits of the files' names and contents; empty without files.

    Raises:
        ValueError: a file cannot be read.
    """
    if not files:
        return ""
    total = hashlib.blake2b(digest_size=8)
    for name, file in sorted(files.items()):
        try:
            with file.open("rb") as source:
                total.update(name.encode("utf-8", "surrogateescape") + b"\0")
                total.update(hashlib.file_digest(source, "blake2b").digest())
        except IsADirectoryError:
            raise ValueError(f"{file} is a folder; name a file of weights, or a model with --model hf:FOLDER") from None
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    return total.hexdigest()
