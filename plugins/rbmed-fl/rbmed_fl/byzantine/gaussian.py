"""Noise instead of updates (the Gaussian attack of Blanchard et al. 2017, arXiv 1703.02757)."""

from __future__ import annotations

import torch

from rbmed_fl.byzantine.base import Malice, Who
from rbmed_fl.local_training import Turn
from rbmed_fl.option import Number
from rbmed_fl.states import State
from robustbench_med import Field


class Gaussian(Malice):
    """Sends ``received`` plus Gaussian noise in place of what it learnt.

    The noise is measured in its own honest update: with ``std=1`` both have the same length, whatever the model, the
    learning rate and the round.
    """

    class Params(Who):
        """Parameters of `Gaussian`."""

        std: Number = Field(
            10.0,
            gt=0,
            allow_inf_nan=False,
            description="Standard deviation of the noise, in root mean squares of the honest update's entries.",
        )

    def distort(self, received: State, sent: State, turn: Turn) -> State:
        """See `Malice`."""
        if not sent:
            return sent
        update = torch.cat([(value - received[name]).double().flatten() for name, value in sent.items()])
        std = self.params.std * float(update.square().mean().sqrt())
        generator = turn.generator

        def noise(like: torch.Tensor) -> torch.Tensor:
            return torch.randn(like.shape, generator=generator, device=generator.device).to(like)

        return {name: value + std * noise(value) for name, value in received.items()}
