"""Where trained parts live: safetensors beside a manifest that says how they came to be.

::

    <artifact>/
        manifest.json            what was trained, on what, with which figures; digests of all files
        classifier.safetensors   state that every client holds
        detector.safetensors  purifier.safetensors
        clients/<name>.safetensors   what belongs to one client of the classifier, if anything
        clients/<part>/<name>.safetensors   and of another part
        calibration.json         gates by key (see `robustbench_med.calibration`)

Weights are safetensors only, never pickles. A folder is written beside its place and renamed, so it is there whole or
not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustbench_med.errors import WeightsError

MANIFEST = "manifest.json"
#: Tensors with at least this many elements are stored in half precision; small ones (biases, batch-norm statistics)
#: stay in float32, where their range matters and their size does not.
HALF_FROM = 1024


def digest_file(path: Path) -> str:
    """blake2b hex digest (32 bytes) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)  # mkstemp made it private; weights and records are for others to read
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends well, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield draft
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        draft.chmod(0o755)
        draft.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state, large float tensors in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def compact(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu().contiguous()
        return tensor.half() if tensor.dtype == torch.float32 and tensor.numel() >= HALF_FROM else tensor

    save_file({name: compact(tensor) for name, tensor in state.items()}, path)


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state, half precision widened to float32."""
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"weights {path} do not exist; train them with `rbmed train`") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights {path} are corrupt or not in safetensors format ({error})") from None
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in state.items()}


def personal(part: str, client: str) -> str:
    """The file (without suffix) with what belongs to one client."""
    return f"clients/{client}" if part == "classifier" else f"clients/{part}/{client}"


def part_of(file: str) -> str:
    """The part whose state a file holds."""
    head, *rest = file.split("/")
    if head != "clients":
        return head.removesuffix(".safetensors")
    return rest[0] if len(rest) == 2 else "classifier"


class Artifact:
    """A folder of trained parts, its digests checked when opened.

    Raises:
        WeightsError: the folder is absent, its manifest unreadable, or a file differs from the manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            files = dict(self.manifest["files"])
        except FileNotFoundError:
            raise WeightsError(
                f"no trained weights in {folder}: {MANIFEST} is missing; train them with `rbmed train`"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"manifest {folder / MANIFEST} is unreadable ({error!r})") from None
        for name, digest in files.items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise WeightsError(f"manifest {folder / MANIFEST} names a file outside its folder: {name!r}")
            if not path.is_file():
                raise WeightsError(f"weights {path} do not exist although the manifest lists them")
            if digest_file(path) != digest:
                raise WeightsError(f"weights {path} are corrupt: their digest differs from the manifest's")

    @property
    def digest(self) -> str:
        """One digest for all weights, in the cell id and in every record."""
        listing = json.dumps(self.manifest["files"], sort_keys=True)
        return hashlib.blake2b(listing.encode(), digest_size=16).hexdigest()

    def state(self, name: str) -> dict[str, Tensor]:
        """The state in ``name`` (without suffix), such as ``classifier`` or ``clients/CS``."""
        path = self.folder / f"{name}.safetensors"
        if not self.has(name):
            raise WeightsError(f"weights {path} are not listed in {self.folder / MANIFEST}")
        return load_state(path)

    def has(self, name: str) -> bool:
        """Whether there is such a state."""
        return f"{name}.safetensors" in self.manifest["files"]

    def files(self, part: str) -> list[str]:
        """The files that hold one part, for all clients."""
        return [file for file in self.manifest["files"] if part_of(file) == part]

    @property
    def clients(self) -> tuple[str, ...]:
        """Names of the clients the classifier was trained on."""
        return tuple(self.manifest["clients"])


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a finished folder, with the digest of every weights file in it."""
    files = {path.relative_to(folder).as_posix(): digest_file(path) for path in sorted(folder.rglob("*.safetensors"))}
    write_text(folder / MANIFEST, json.dumps({**manifest, "files": files}, indent=1, sort_keys=True) + "\n")
