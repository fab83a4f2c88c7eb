"""The federation after its last finished round, in one safetensors file that is replaced atomically."""

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

from robustbench_med import Split
from robustbench_med.errors import UsageError, WeightsError

FILE = "federation.safetensors"


@dataclass
class Standing:
    """Where a federation stands after a round.

    Attributes:
        done: finished rounds.
        shared: state the server holds.
        personal: state each client keeps, by client name.
        history: one dict per finished round.
    """

    done: int
    shared: dict[str, Tensor]
    personal: dict[str, dict[str, Tensor]]
    history: list[dict[str, Any]] = field(default_factory=list)


class Checkpoint:
    """Saves and restores a `Standing`.

    Args:
        folder: created when first needed.
        identity: what the federation is; a checkpoint of another one is refused.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self.path = folder / FILE
        self.identity = dict(identity)

    def save(self, standing: Standing) -> None:
        """Write beside the old file, then replace it: whenever we are killed, one of the two is whole."""
        # Owners by number, the server being 0: a client may be called anything.
        states = [standing.shared, *standing.personal.values()]
        tensors = {f"{owner}/{key}": value for owner, state in enumerate(states) for key, value in state.items()}
        header = {"identity": self.identity, "done": standing.done, "history": standing.history}
        header["clients"] = list(standing.personal)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(safetensors.torch.save(tensors, metadata={"federation": json.dumps(header)}))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def load(self) -> Standing | None:
        """The last finished round, or None where there is none.

        Raises:
            WeightsError: the file is corrupt.
            UsageError: it belongs to another federation.
        """
        if not self.path.exists():
            return None
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                header = json.loads(file.metadata()["federation"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            identity, done, history, clients = (header[k] for k in ("identity", "done", "history", "clients"))
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"checkpoint {self.path} is corrupt ({error}); delete it to start afresh") from None
        if identity != self.identity:
            differ = sorted(k for k in identity | self.identity if identity.get(k) != self.identity.get(k))
            raise UsageError(
                f"checkpoint {self.path} belongs to another federation (different: {', '.join(differ)}); "
                f"delete it to start afresh, or choose another folder"
            )
        standing = Standing(done, {}, {name: {} for name in clients}, history)
        states = [standing.shared, *standing.personal.values()]
        for name, tensor in tensors.items():
            owner, key = name.split("/", 1)
            states[int(owner)][key] = tensor
        return standing


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
