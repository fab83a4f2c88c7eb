"""Base class of the classical purifiers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import pydantic
import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.bounded import bounded


class Filter(rbmed.Purifier):
    """A deterministic purifier: strength 0 changes least (with most filters nothing), strength 1 most."""

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """The filtered images, clamped to [0, 1]; ``strength`` is clamped to [0, 1], ``rng`` is not used."""
        return bounded(self.filter(x, strength.to(x.dtype).clamp(0, 1)))

    @abstractmethod
    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Filter images (N, C, H, W) in [0, 1], each with its own strength (N,) in [0, 1] and of the same type."""


class DecreasingParams(rbmed.Params):
    """Parameters of a filter with a whole number that decreases with strength, from NAME_max to NAME_min.

    ``quantity`` is that NAME.
    """

    quantity: ClassVar[str]

    @property
    def _range(self) -> tuple[int, int]:
        return getattr(self, f"{self.quantity}_min"), getattr(self, f"{self.quantity}_max")

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self._range
        if low > high:
            raise ValueError(f"need {self.quantity}_min <= {self.quantity}_max, not {low}, {high}")
        return self

    def at(self, strength: Tensor) -> Tensor:
        """The number for each strength (N,) in [0, 1]: linear, rounded."""
        low, high = self._range
        return (high - (high - low) * strength.detach()).round()


def per_image(values: Tensor) -> Tensor:
    """One value per image, (N,) -> (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def constant(values: Any, like: Tensor) -> Tensor:
    """A tensor of these values, of type and device of ``like``; nothing waits for the device."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
