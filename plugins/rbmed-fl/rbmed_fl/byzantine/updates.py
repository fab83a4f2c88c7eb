"""Wrong labels, and updates that were not trained."""

from __future__ import annotations

from dataclasses import replace

import torch

from rbmed_fl.byzantine.base import ByzantineBehaviour, scaled
from rbmed_fl.local_training import LocalRound
from rbmed_fl.malicious import GaussianParams, ScalingParams, SignFlipParams
from rbmed_fl.states import State


class LabelFlip(ByzantineBehaviour):
    """Trains as usual on labels that are all wrong: every label becomes the next class, the last one the first.

    The last class is the highest that the client holds, at least 1: with two classes, 0 and 1 are exchanged. Its loss
    and accuracy in the history are measured on the wrong labels. Of findings, each is turned into its opposite.
    Reference: Tolpegin et al. 2020, arXiv 2007.08432.
    """

    def poison_data(self, local_round: LocalRound) -> LocalRound:
        """See `ByzantineBehaviour`."""
        classes = max(2, int(local_round.labels.max()) + 1)
        return replace(local_round, labels=(local_round.labels + 1) % classes)


class SignFlip(ByzantineBehaviour):
    """Trains as usual and sends ``received - factor * (trained - received)`` (Li et al. 2019, arXiv 1811.03761)."""

    Params = SignFlipParams

    def poison_update(self, received: State, sent: State, local_round: LocalRound) -> State:
        """See `ByzantineBehaviour`."""
        return scaled(received, sent, -self.params.factor)


class Scaling(ByzantineBehaviour):
    """Trains as usual and sends ``received + factor * (trained - received)``.

    As Bagdasaryan et al. 2020 (arXiv 1807.00459), without their backdoor.
    """

    Params = ScalingParams

    def poison_update(self, received: State, sent: State, local_round: LocalRound) -> State:
        """See `ByzantineBehaviour`."""
        return scaled(received, sent, self.params.factor)


class GaussianUpdate(ByzantineBehaviour):
    """Sends ``received`` plus Gaussian noise in place of its trained parameters.

    The noise is relative to its own honest update: with ``std=1`` both have the same length, for any model, learning
    rate and round. It is the Gaussian attack of Blanchard et al. 2017 (arXiv 1703.02757).
    """

    Params = GaussianParams

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
