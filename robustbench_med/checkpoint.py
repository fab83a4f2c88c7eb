"""Resumable training state in one safetensors file, so that it is written whole or not at all and runs no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from robustbench_med.errors import WeightsError


def save(path: Path, module: nn.Module, optimizer: optim.Optimizer, facts: dict[str, Any]) -> None:
    """Write the module, the optimizer's moments and ``facts`` (JSON values) to ``path``."""
    tensors = {f"module.{name}": value.contiguous() for name, value in module.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in moments.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"facts": json.dumps(facts)})
    partial.replace(path)


def load(path: Path, module: nn.Module, optimizer: optim.Optimizer, expected: dict[str, Any]) -> dict[str, Any]:
    """Restore what `save` wrote and return its facts; ``{}``, changing nothing, where there is nothing to resume.

    A checkpoint whose facts do not hold every item of ``expected`` belongs to another run and is not used.

    Raises:
        WeightsError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"checkpoint {path} is damaged ({error}); delete it to train from the start") from error
    if any(facts.get(name) != value for name, value in expected.items()):
        return {}
    module.load_state_dict(_under("module.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, moment = name.split(".", 1)
        moments.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return facts


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
