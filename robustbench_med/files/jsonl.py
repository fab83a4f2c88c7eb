"""Files of lines, ``NAME.jsonl``, and the same compressed by gzip, ``NAME.jsonl.gz``: found, read and written.

Compressed files may be from strangers: no more is unpacked than a file of theirs may hold.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO

from robustbench_med.errors import DataError, StoreError
from robustbench_med.files.atomic import replacing
from robustbench_med.files.strict_json import LARGEST, ordinary_bytes

PLAIN, COMPRESSED = ".jsonl", ".jsonl.gz"
#: Lines of a compressed file: as many as a grid may have cells. Millions of tiny ones would fill the memory.
MOST = 100_000


def is_lines(path: Path) -> bool:
    """Whether a file is called as one of lines is."""
    return path.name.endswith((PLAIN, COMPRESSED))


def is_compressed(path: Path) -> bool:
    """Whether a file is called as a compressed one is."""
    return path.suffix == ".gz"


def name_of(path: Path) -> str:
    """The NAME of a file."""
    return path.name.removesuffix(".gz").removesuffix(PLAIN)


def files_of(folder: Path) -> list[Path]:
    """The files of a folder, sorted; none where there is no folder.

    Raises:
        DataError: a file is there plain and compressed.
    """
    found = sorted(path for path in folder.glob(f"*{PLAIN}*") if is_lines(path))
    names = [name_of(path) for path in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{folder} holds {twice[0]}{PLAIN} and {twice[0]}{COMPRESSED}; keep one of them")
    return found


def file_of(folder: Path, name: str, compressed: bool) -> Path:
    """The file of this name in a folder as it is there, or as a new one is called; raises as `files_of`."""
    there = {name_of(path): path for path in files_of(folder)}
    return there.get(name, folder / f"{name}{COMPRESSED if compressed else PLAIN}")


def size_of(path: Path) -> int:
    """The size of a file in bytes; of a compressed one what it says of itself, at most 4 GiB.

    Raises:
        OSError: it cannot be read.
    """
    if not is_compressed(path):
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-min(4, path.stat().st_size), io.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def opened(path: Path) -> BinaryIO:
    """A file to be read line by line; raises as `content`."""
    return io.BytesIO(content(path)) if is_compressed(path) else path.open("rb")


def content(path: Path) -> bytes:
    """What a file says, unpacked.

    Raises:
        OSError: it cannot be read, is damaged, or unpacks to more than files of strangers may hold.
    """
    if not is_compressed(path):
        return path.read_bytes()
    try:
        return _unpacked(ordinary_bytes(path))
    except ValueError as error:
        raise gzip.BadGzipFile(str(error)) from None


def _unpacked(packed: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)  # gzip, with its checksum
    try:
        data = stream.decompress(packed, LARGEST + 1)
    except zlib.error:
        raise ValueError("it is damaged, or no gzip file") from None
    _check(data)
    if not stream.eof:
        raise ValueError("it is cut off")
    if stream.unused_data:
        raise ValueError("something follows its end; it must be compressed as a whole")
    return data


def _check(data: bytes) -> None:
    if len(data) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB when unpacked")
    if data.count(b"\n") > MOST:
        raise ValueError(f"it has more than {MOST} lines")


def write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; the same lines give the same bytes.

    Raises:
        StoreError: it cannot be written, or would be larger than a compressed file may be; the file is as it was.
    """
    if is_compressed(path):
        try:
            _check(data)
        except ValueError as error:
            raise StoreError(f"cannot write {path}: {error}; choose another name") from None
        data = _packed(data)
    with replacing(path) as draft:
        draft.write_bytes(data)


def _packed(data: bytes) -> bytes:
    """Without the time and a name, which would make each file another one."""
    kept = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=kept, mtime=0) as file:
        file.write(data)
    return kept.getvalue()
