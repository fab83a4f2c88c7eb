"""What the classical purifiers share."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.bounded import bounded


class Filter(rbmed.Purifier):
    """A deterministic purifier: strength 0 changes least (most filters: nothing), strength 1 most."""

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """The filtered images, clamped to [0, 1]; ``strength`` is clamped to [0, 1], ``rng`` is not drawn from."""
        return bounded(self.filter(x, strength.to(x.dtype).clamp(0, 1)))

    @abstractmethod
    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Filter images (N, C, H, W) in [0, 1], each with its own strength (N,) in [0, 1] and of the same type."""


def per_image(values: Tensor) -> Tensor:
    """One value per image, (N,) -> (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)
