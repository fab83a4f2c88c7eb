"""Trained parts on disk: safetensors, and a manifest that says how they were trained.

::

    <artifact>/
        manifest.json            what was trained, on what, with which figures; digests of the tensors of all files
        classifier.safetensors   state that every client holds
        detector.safetensors  purifier.safetensors
        clients/<name>.safetensors   what belongs to one client of the classifier, if anything
        clients/<part>/<name>.safetensors   and of another part
        calibration.json         gates (see `robustbench_med.defenses.deployment`)

Weights are safetensors only, never pickles. A folder is written under another name and renamed, so it exists
completely or not at all. Torch is imported when a state is read or written, not to look at a folder.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import safetensors
from safetensors import SafetensorError, safe_open

from robustbench_med.errors import DataError, WeightsError, first_fault
from robustbench_med.files.atomic import store_errors, write_text

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
#: Beside weights from the hub: where they came from.
SOURCE = "source.json"
#: Tensors with at least this many elements are stored in half precision; small ones (biases, batch-norm statistics)
#: stay in float32, where their range matters and their size does not.
HALF_FROM = 1024


def digest_of(files: Mapping[str, str]) -> str:
    """blake2b hex digest (16 bytes) of file names and the digests of their tensors."""
    return hashlib.blake2b(json.dumps(files, sort_keys=True).encode(), digest_size=16).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Digest of the tensors of every weights file in a folder, by relative name.

    Raises:
        ValueError: a file is not in safetensors format.
    """
    return {path.relative_to(folder).as_posix(): digest_tensors(path) for path in sorted(folder.rglob("*.safetensors"))}


def save_state(path: Path, state: Mapping[str, Tensor], exact: bool = False) -> None:
    """Write a state, large float tensors in half precision unless it is to be ``exact``.

    Raises:
        StoreError: it cannot be written, as where the disk is full.
    """
    import torch
    from safetensors.torch import save_file

    def compact(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu().contiguous()
        small = exact or tensor.dtype != torch.float32 or tensor.numel() < HALF_FROM
        return tensor if small else tensor.half()

    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file({name: compact(tensor) for name, tensor in state.items()}, path)
        except safetensors.SafetensorError as error:  # how it tells of a full disk
            raise OSError(f"{error}") from error


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state, half precision widened to float32."""
    import torch
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"weights {path} do not exist; train them with `rbmed train`") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights {path} are corrupt or not in safetensors format ({error})") from None
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in state.items()}


def personal(part: str, client: str) -> str:
    """The file (without suffix) with what belongs to one client.

    Raises:
        DataError: the client's name is no file name, so it could lead out of the folder.
    """
    if client in (".", "..") or re.search(r"[/\\\0]", client):
        raise DataError(f"client {client!r} cannot have files: its name must not be a path")
    return f"clients/{client}" if part == "classifier" else f"clients/{part}/{client}"


def part_of(file: str) -> str:
    """The part whose state a file holds."""
    head, *rest = file.split("/")
    if head != "clients":
        return head.removesuffix(".safetensors")
    return rest[0] if len(rest) == 2 else "classifier"


class _Manifest(pydantic.BaseModel):
    """What every reader of a manifest relies on."""

    model_config = pydantic.ConfigDict(extra="allow")

    files: dict[str, str]
    clients: list[str]
    training_keys: dict[str, str] = {}
    parts: dict[str, dict[str, Any]] = {}
    seed: int | None = None
    created: str | None = None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of trained parts; the files it lists are not looked at.

    Raises:
        WeightsError: it is absent or unreadable.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text)
        _Manifest.model_validate(manifest)
    except FileNotFoundError:
        raise WeightsError(
            f"no trained weights in {folder}: {MANIFEST} is missing; train them with `rbmed train`"
        ) from None
    except pydantic.ValidationError as error:
        raise WeightsError(f"manifest {path} is unreadable ({first_fault(error)})") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"manifest {path} is unreadable ({' '.join(str(error).split())[:200]})") from None
    return manifest


class Artifact:
    """A folder of trained parts, its digests checked when opened.

    Raises:
        WeightsError: the folder is absent, its manifest unreadable, or a file differs from the manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        for name, digest in self.manifest["files"].items():
            self._check(name, digest)

    def _check(self, name: str, digest: str) -> None:
        """Whether a file is in the folder, links followed, and is what the manifest says."""
        path, manifest = self.folder / name, self.folder / MANIFEST
        shown = path if name.isprintable() and len(name) < 100 else f"{self.folder} / {name[:80]!r}"
        try:
            inside = path.resolve().is_relative_to(self.folder.resolve())
            there = inside and path.is_file()
            found = _found(path) if there else ""
        except (OSError, ValueError, RuntimeError) as error:  # too long a name, a null byte, links in a circle
            reason = getattr(error, "strerror", None) or f"{error}"[:80]
            raise WeightsError(f"manifest {manifest} names a file that cannot be read: {shown} ({reason})") from None
        if not inside:
            raise WeightsError(f"manifest {manifest} names a file outside its folder: {shown}")
        if not there:
            raise WeightsError(f"weights {shown} do not exist although the manifest lists them")
        if found != digest:
            raise WeightsError(
                f"weights {shown} are corrupt: their digest differs from the manifest's; delete {self.folder}, or let "
                "`rbmed run --train` make them anew"
            )

    @property
    def digest(self) -> str:
        """One digest for all weights, in the cell id and in every record."""
        return digest_of(self.manifest["files"])

    @property
    def source(self) -> str:
        """``hf:OWNER/NAME@COMMIT`` of weights from the hub; "" for others."""
        try:
            found = json.loads((self.folder / SOURCE).read_text(encoding="utf-8"))["source"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return found if isinstance(found, str) and re.fullmatch(r"hf:[\w./-]{1,200}@[0-9a-f]{40}", found) else ""

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


def _found(path: Path) -> str:
    """The digest of a file's tensors; "" where it holds none, as it is damaged then."""
    try:
        return digest_tensors(path)
    except ValueError:
        return ""


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a finished folder, with the digest of the tensors of every weights file in it."""
    write_text(folder / MANIFEST, json.dumps({**manifest, "files": digests(folder)}, indent=1, sort_keys=True) + "\n")


#: Types in the canonical order; one that is not here comes after them, by its name.
TYPES = (
    *("U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16"),
    *("U16", "I16", "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"),
)
#: Bytes of the header's length, and what the header is padded to.
_WORD = 8


def digest_tensors(path: Path) -> str:
    """blake2b hex digest (32 bytes) of the tensors of a safetensors file: names, types, shapes and values.

    The same tensors can be written in another order, with metadata, or by another version of a library. Their digest
    is that of one canonical form: the safetensors format without metadata, tensors ordered by their type (widest first)
    and then by name. That is what safetensors itself writes today, so the digest of a file that it wrote is the digest
    of the file's bytes.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        with safe_open(path, "np"):  # checks the header: ranges inside the file, without holes or overlaps
            pass
    except SafetensorError as error:
        raise ValueError(f"not in safetensors format: {error}") from None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = _WORD + int.from_bytes(data[:_WORD], "little")
        found: dict[str, Any] = json.loads(data[_WORD:start])
        found.pop("__metadata__", None)
        names = sorted(found, key=lambda name: (*_place(found[name]["dtype"]), name))
        header, place = {}, 0
        for name in names:
            low, high = found[name]["data_offsets"]
            facts = {"dtype": found[name]["dtype"], "shape": found[name]["shape"]}
            header[name] = {**facts, "data_offsets": [place, place + high - low]}
            place += high - low
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _WORD)
        made = hashlib.blake2b(len(text).to_bytes(_WORD, "little") + text, digest_size=32)
        for name in names:
            low, high = found[name]["data_offsets"]
            made.update(data[start + low : start + high])
    return made.hexdigest()


def _place(kind: str) -> tuple[int, str]:
    return (TYPES.index(kind) if kind in TYPES else len(TYPES), kind)
