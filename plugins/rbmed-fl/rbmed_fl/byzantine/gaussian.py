"""Noise instead of updates (the Gaussian attack of Blanchard et al. 2017, arXiv 1703.02757)."""

from __future__ import annotations

import torch

from rbmed_fl.byzantine.base import ByzantineBehaviour, ByzantineParams
from rbmed_fl.local_training import LocalRound
from rbmed_fl.states import State
from robustbench_med import Field, Number


class GaussianUpdate(ByzantineBehaviour):
    """Sends ``received`` plus Gaussian noise in place of its trained parameters.

    The noise is relative to its own honest update: with ``std=1`` both have the same length, for any model, learning
    rate and round.
    """

    class Params(ByzantineParams):
        std: Number = Field(
            10.0,
            gt=0,
            allow_inf_nan=False,
            description="Standard deviation of the noise, in root mean squares of the honest update's entries.",
        )

    def poison_update(self, received: State, sent: State, local_round: LocalRound) -> State:
        """See `ByzantineBehaviour`."""
        if not sent:
            return sent
        update = torch.cat([(value - received[name]).double().flatten() for name, value in sent.items()])
        std = self.params.std * float(update.square().mean().sqrt())
        generator = local_round.generator

        def noise(like: torch.Tensor) -> torch.Tensor:
            return torch.randn(like.shape, generator=generator, device=generator.device).to(like)

        return {name: value + std * noise(value) for name, value in received.items()}
