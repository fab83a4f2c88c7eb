"""Tensors and a JSON header in one safetensors file that is replaced atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from robustbench_med.errors import UsageError, WeightsError

_HEADER = "federation"


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write next to the old file, then replace it: if the process is killed, one of the two is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        content = {name: value.contiguous() for name, value in tensors.items()}
        file.write(safetensors.torch.save(content, metadata={_HEADER: json.dumps(header)}))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read(path: Path, identity: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file written by `write`, whose header must hold ``identity``.

    Raises:
        WeightsError: the file is corrupt.
        UsageError: it belongs to another federation.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        found = dict(header["identity"])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"checkpoint {path} is corrupt ({error}); delete it to start from scratch") from None
    if found != dict(identity):
        differ = sorted(k for k in found.keys() | identity.keys() if found.get(k) != identity.get(k))
        raise UsageError(
            f"checkpoint {path} belongs to another federation (different: {', '.join(differ)}); "
            f"delete it to start from scratch, or choose another folder"
        )
    return tensors, header
