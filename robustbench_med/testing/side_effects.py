"""Detects side effects of a component: on global random generators, inputs, weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class GlobalDraws:
    """Detects draws from global random generators; the generators are restored."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Detect draws inside the block."""
        # Saved and restored, never drawn from.
        states: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
            "torch": (torch.get_rng_state, torch.set_rng_state),
            "NumPy": (np.random.get_state, np.random.set_state),
            "Python": (random.getstate, random.setstate),
        }
        before = {name: get() for name, (get, _) in states.items()}
        try:
            yield
        finally:
            for name, (get, put) in states.items():
                if not _same(before[name], get()):
                    self.drawn.append(name)
                    put(before[name])

    def faults(self) -> Iterator[str]:
        """A line for each generator."""
        for name in self.drawn:
            yield f"draws from {name.lower() if name == 'torch' else name}'s global generator; use the stream `rng`"


class Unmodified:
    """Named tensors that must not change."""

    def __init__(self, **tensors: Tensor) -> None:
        self.tensors = tensors
        self.before = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def add(self, name: str, module: nn.Module) -> None:
        """Add a module's weights and buffers."""
        for key, value in module.state_dict().items():
            self.tensors[f"{name} {key}"] = value
            self.before[f"{name} {key}"] = value.clone()

    def faults(self) -> Iterator[str]:
        """A line for each tensor that has changed."""
        for name, tensor in self.tensors.items():
            if not _same(self.before[name], tensor.detach()):
                yield f"modifies its input in place: {name}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor) and a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
            if a.is_floating_point()
            else torch.equal(a, b)
        )
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def like(made: Any, wanted: Tensor, shape: tuple[int, ...], what: str) -> Iterator[str]:
    """Faults of a tensor that should have this shape, and dtype and device of ``wanted``."""
    if not isinstance(made, Tensor):
        yield f"{what} must be a tensor, not a {type(made).__name__}"
    elif tuple(made.shape) != shape:
        yield f"returns shape {tuple(made.shape)}, not {shape}"
    elif (made.dtype, made.device.type) != (wanted.dtype, wanted.device.type):
        yield f"{what} is {made.dtype} on {made.device.type}; given were {wanted.dtype} on {wanted.device.type}"


def far(a: Tensor, b: Tensor) -> bool:
    """Whether two results differ by more than rounding.

    Untrained networks in bfloat16 amplify rounding; mixing images moves results by far more than 2 % of their spread.
    """
    if a.shape != b.shape:
        return True
    return bool((a - b).abs().mean() > 0.02 * (a.std() if a.numel() > 1 else 0) + 1e-6)


def states_differ(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """Names whose tensors are not the same."""
    return sorted(name for name in a.keys() | b.keys() if name not in a or name not in b or not _same(a[name], b[name]))
