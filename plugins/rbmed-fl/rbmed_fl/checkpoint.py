"""The states of server and clients between rounds, in files that are replaced atomically.

A client's state is stored at the client and never sent. After each round the client stores its state and keeps that of
the round before: if the federation is interrupted after a client has finished a round and before the server has, the
client repeats the round from where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from rbmed_fl.states import State, add_prefix, strip_prefix
from robustbench_med import Split
from robustbench_med.errors import UsageError, WeightsError

FILE = "server.safetensors"


@dataclass
class ServerState:
    """The server's state after a round.

    Attributes:
        done: finished rounds.
        shared: the merged state.
        aggregator: the aggregator's own state, such as moments.
        history: one dict per finished round.
    """

    done: int
    shared: State
    aggregator: State = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


class ServerCheckpoint:
    """Saves and restores a `ServerState`.

    Args:
        folder: created when first needed.
        identity: of the federation; a checkpoint of another federation is refused.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self.path = folder / FILE
        self.identity = dict(identity)

    def save(self, state: ServerState) -> None:
        """Replace the file atomically."""
        header = {"identity": self.identity, "done": state.done, "history": state.history}
        _write(self.path, add_prefix("shared", state.shared) | add_prefix("server", state.aggregator), header)

    def load(self) -> ServerState | None:
        """The state after the last finished round; None: there is no file.

        Raises:
            WeightsError: the file is corrupt.
            UsageError: it belongs to another federation.
        """
        if not self.path.exists():
            return None
        tensors, header = _read(self.path, self.identity)
        shared, aggregator = strip_prefix("shared", tensors), strip_prefix("server", tensors)
        try:
            return ServerState(header["done"], shared, aggregator, header["history"])
        except KeyError as error:
            raise WeightsError(f"checkpoint {self.path} is corrupt: it lacks {error}; delete it") from None


def digest_state(state: Mapping[str, Tensor]) -> str:
    """Digest of names, dtypes, shapes and values of a state."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().numpy().data)
    return digest.hexdigest()


def digest_clients(clients: Mapping[str, Split]) -> str:
    """Digest of all clients' names, images and labels."""
    parts = {f"{name} {part}": getattr(split, part) for name, split in clients.items() for part in ("images", "labels")}
    return digest_state(parts)


class ClientStore:
    """Stores the state of one client in files, one per round, each replaced atomically.

    Args:
        folder: of this client alone.
        identity: of the federation; a state of another federation is refused.
        may_miss_rounds: the client may have missed rounds; it then resumes from its last one.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str], may_miss_rounds: bool = False) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.may_miss_rounds = may_miss_rounds

    def save(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Store ``state`` (on the CPU) after round ``number`` and delete all others but that of the round before."""
        _write(self._file(number), state, {"identity": self.identity})
        wanted = {self._file(number), self._file(self._last(number - 1))}
        for path in set(self.folder.glob("round-*.safetensors")) - wanted:
            path.unlink()

    def load(self, number: int) -> State:
        """The client's state after round ``number``; empty before its first one.

        Raises:
            WeightsError: the file is missing or corrupt.
            UsageError: it belongs to another federation.
        """
        if self.may_miss_rounds:
            number = self._last(number)
        if number == 0:
            return {}
        path = self._file(number)
        if not path.is_file():
            raise WeightsError(
                f"the client's state after round {number} is missing: {path}; without it the training cannot resume; "
                f"delete the server's checkpoint to start from scratch"
            )
        return _read(path, self.identity)[0]

    def _last(self, number: int) -> int:
        """The last round up to ``number`` that has a file; 0: none."""
        rounds = (int(path.stem.removeprefix("round-")) for path in self.folder.glob("round-*.safetensors"))
        return max((found for found in rounds if found <= number), default=0)

    def _file(self, number: int) -> Path:
        return self.folder / f"round-{number}.safetensors"


_HEADER = "federation"


def _write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write next to the old file, then replace it: if the process is killed, one of the two is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        content = {name: value.contiguous() for name, value in tensors.items()}
        file.write(safetensors.torch.save(content, metadata={_HEADER: json.dumps(header)}))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read(path: Path, identity: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file written by `_write`, whose header must hold ``identity``.

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
