"""The server's state after its last finished round, in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from rbmed_fl import files
from rbmed_fl.states import State, add_prefix, strip_prefix
from robustbench_med import Split
from robustbench_med.errors import WeightsError

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
        files.write(self.path, add_prefix("shared", state.shared) | add_prefix("server", state.aggregator), header)

    def load(self) -> ServerState | None:
        """The state after the last finished round; None: there is no file.

        Raises:
            WeightsError: the file is corrupt.
            UsageError: it belongs to another federation.
        """
        if not self.path.exists():
            return None
        tensors, header = files.read(self.path, self.identity)
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
