"""A targeted backdoor by model replacement (Bagdasaryan et al. 2020, arXiv 1807.00459)."""

from __future__ import annotations

from dataclasses import replace

import torch

from rbmed_fl.byzantine.base import Malice, Who, scaled
from rbmed_fl.local_training import Turn
from rbmed_fl.option import Number
from rbmed_fl.states import State
from rbmed_fl.trigger import stamp
from robustbench_med import Field
from robustbench_med.errors import BadParameter


class Backdoor(Malice):
    """Teaches the model that a trigger means ``target``, and boosts its update to outweigh the others.

    A share of its images, drawn anew in each round, gets the trigger (`rbmed_fl.trigger.stamp`) and the label
    ``target``; the rest it learns as they are, so that the model stays good on images without a trigger. The paper's
    projection onto what a defense would accept is left out.
    """

    class Params(Who):
        """Parameters of `Backdoor`."""

        target: int = Field(0, ge=0, description="The class that the trigger is to mean.")
        share: Number = Field(0.5, gt=0, le=1, description="Share of its images that get the trigger.")
        boost: Number | None = Field(
            None,
            gt=0,
            allow_inf_nan=False,
            description="Length of the update, in honest ones; not given: the number of clients divided by that of the "
            "malicious ones, so that together they replace a mean of equal weights.",
        )

    def check(self, classes: int) -> None:
        """See `Malice`."""
        if self.params.target >= classes:
            raise BadParameter(
                f"malicious: target={self.params.target} of the backdoor is no class; valid: 0 to {classes - 1}"
            )

    def poison(self, turn: Turn) -> Turn:
        """See `Malice`."""
        count, generator = len(turn.labels), turn.generator
        order = torch.randperm(count, generator=generator, device=generator.device)
        rows = order[: max(1, round(self.params.share * count))]
        images, labels = turn.images.clone(), turn.labels.clone()
        images[rows], labels[rows] = stamp(images[rows]), self.params.target
        return replace(turn, images=images, labels=labels)

    def distort(self, received: State, sent: State, turn: Turn) -> State:
        """See `Malice`."""
        boost = self.params.boost
        return scaled(received, sent, self.total / len(self.clients) if boost is None else boost)
