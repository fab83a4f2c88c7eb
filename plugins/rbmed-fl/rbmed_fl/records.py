"""Model states as Flower records, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from flwr.app import ArrayRecord
from torch import Tensor


def to_record(state: Mapping[str, Tensor]) -> ArrayRecord:
    """A state as a Flower record (a serialized copy, on the CPU)."""
    return ArrayRecord(dict(state))


def to_state(record: ArrayRecord, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A record as a state on the CPU, each entry with the dtype it has in ``like``."""
    return {name: cast(torch.from_numpy(array.numpy()), like[name]) for name, array in record.items()}


def cast(value: Tensor, like: Tensor) -> Tensor:
    """``value`` with the dtype of ``like``.

    An average of integers (``num_batches_tracked`` of batch normalisation) comes back as float64; it is rounded, since
    a bare cast would truncate 2.9999 to 2.
    """
    if value.is_floating_point() and not like.is_floating_point():
        value = value.round()
    return value.to(like.dtype)


def average(states: list[dict[str, Tensor]], weights: list[float], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weighted mean of equally keyed states, taken in float64."""
    share = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    return {
        name: cast(torch.einsum("i,i...->...", share, torch.stack([s[name].double() for s in states])), like[name])
        for name in states[0]
    }
