"""Reads a file of weights, whatever it is called, without running anything that is in it."""

from __future__ import annotations

import argparse
import codecs
import datetime as dt
import pathlib
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from robustbench_med.errors import WeightsError

EXPORT = "export the state alone: torch.save(model.state_dict(), 'weights.pt')"
#: Besides tensors, what files of weights hold that is data only: figures of a training and its settings.
HARMLESS: list[Any] = [
    np.dtype,
    np.ndarray,
    codecs.encode,
    argparse.Namespace,
    *(dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone),
    *(
        (kind, f"{module}.{name}")
        for kind, name in (
            *((pathlib.PurePosixPath, name) for name in ("PosixPath", "PurePosixPath")),
            *((pathlib.PureWindowsPath, name) for name in ("WindowsPath", "PureWindowsPath")),
        )
        for module in ("pathlib", "pathlib._local")
    ),
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")),
    np.float64(0).__reduce__()[0],
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.zeros(1).__reduce__()[0],
    (np.zeros(1).__reduce__()[0], "numpy.core.multiarray._reconstruct"),
]
#: Files of other libraries by their first bytes.
OTHERS = {b"\x89HDF": "HDF5 (Keras)", b"GGUF": "GGUF", b"\x08": "ONNX"}
#: Files that stand for weights and are none, by their first bytes, and what to do.
STAND_INS = {
    b"version https://": "a pointer of Git LFS: fetch the file itself with git lfs pull",
    b"<": "a web page, not the file itself: download it again",
    b"{": "JSON, not weights; the index of a model in several files is read by --model hf:FOLDER",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
}


def load(file: Path) -> Any:
    """What a file holds: safetensors, or a PyTorch file with tensors, containers and numbers.

    Raises:
        WeightsError: it cannot be read, or holds more; the message says what to export.
    """
    head = b""
    try:
        with file.open("rb") as source:
            head = source.read(16)
        if head[8:9] == b"{":
            return load_file(file)
        for start, what in STAND_INS.items():
            if head.lstrip().startswith(start):
                raise WeightsError(f"weights {file} are {what}")
        if tarfile.is_tarfile(file):
            raise WeightsError(f"weights {file} are a tar archive: unpack it first")
        kind = _kind(file, head)
        if kind:
            raise WeightsError(f"weights {file} are {kind}; {EXPORT}")
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(file, "cpu", weights_only=True)
    except WeightsError:
        raise
    except zipfile.BadZipFile:
        raise WeightsError(f"weights {file} cannot be read: the file is cut off or damaged") from None
    except (OSError, SafetensorError, ValueError, EOFError) as error:
        raise WeightsError(f"weights {file} cannot be read: {_line(error)}") from None
    except Exception as error:
        text = str(error)
        if head[:1] != b"\x80" and head[:2] != b"PK":
            raise WeightsError(
                f"weights {file} cannot be read: neither safetensors nor a PyTorch file; {EXPORT}"
            ) from None
        if isinstance(error, RuntimeError):
            raise WeightsError(f"weights {file} cannot be read: {_line(error)}") from None
        named = re.search(r"GLOBAL ([\w.]+)", text)
        what = f" ({named[1]})" if named else ""
        raise WeightsError(f"weights {file} contain more than tensors{what}, which could run code; {EXPORT}") from error


def _kind(file: Path, head: bytes) -> str:
    """What the file is, if it holds no weights of PyTorch."""
    for start, name in OTHERS.items():
        if head.startswith(start):
            return f"of {name}, not of PyTorch"
    if head.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return f"TorchScript, a program (--model {file} runs it)"
        if not any(name.endswith("data.pkl") for name in names):
            return "a zip archive, not a file of PyTorch"
    return ""


def _line(error: Exception) -> str:
    text = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
    return text or "it is empty or cut off"
