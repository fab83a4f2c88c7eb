"""Model states: as Flower records and back, averaged, and several of them in one mapping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from flwr.app import ArrayRecord

State = dict[str, Tensor]


def to_record(state: Mapping[str, Tensor]) -> ArrayRecord:
    """A state as a Flower record (a serialized copy, on the CPU)."""
    from flwr.app import ArrayRecord  # half a second, which who only evaluates does not wait for

    return ArrayRecord(dict(state))


def to_state(record: ArrayRecord, like: Mapping[str, Tensor]) -> State:
    """A record as a state on the CPU, each entry with the dtype it has in ``like``."""
    return {name: torch.from_numpy(array.numpy()).to(like[name].dtype) for name, array in record.items()}


def to_cpu(state: Mapping[str, Tensor]) -> State:
    """A copy on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def average(states: list[State], weights: list[float]) -> State:
    """Weighted mean of equally keyed states, taken in float64; an integer entry is the first state's."""
    share = torch.tensor(weights, dtype=torch.float64) / math.fsum(weights)

    def mean(name: str) -> Tensor:
        first = states[0][name]
        if not first.is_floating_point():
            return first
        stacked = torch.stack([state[name].double() for state in states])
        return torch.einsum("i,i...->...", share, stacked).to(first.dtype)

    return {name: mean(name) for name in states[0]}


def strip_prefix(prefix: str, states: Mapping[str, Tensor]) -> State:
    """The entries named ``prefix/...``, without the prefix."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in states.items() if name.startswith(f"{prefix}/")}


def add_prefix(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The state with ``prefix/`` before each name."""
    return {f"{prefix}/{name}": value for name, value in state.items()}
