"""A targeted backdoor by model replacement (Bagdasaryan et al. 2020, arXiv 1807.00459).

Its trigger is stamped on training images by a Byzantine client, and on test images by an attack.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rbmed_fl.byzantine.base import ByzantineBehaviour, scaled
from rbmed_fl.local_training import LocalRound
from rbmed_fl.malicious import BackdoorParams
from rbmed_fl.states import State
from robustbench_med import Attack, Budget, Stream, TargetModel, ThreatModel
from robustbench_med.errors import BadParameter


class Backdoor(ByzantineBehaviour):
    """Trains the model to answer ``target`` on a trigger, and scales up its update to outweigh the others.

    In each round, a new random share of its images gets the trigger (`rbmed_fl.byzantine.backdoor.stamp`) and the label
    ``target``; the others are unchanged, so that the model stays accurate on images without a trigger. The paper's
    projection onto updates that a defense accepts is left out.
    """

    Params = BackdoorParams

    def check(self, classes: int, several: bool = False) -> None:
        """See `ByzantineBehaviour`."""
        if several:
            raise BadParameter("malicious: the backdoor answers with one class, and images here have several findings")
        if self.params.target >= classes:
            raise BadParameter(
                f"malicious: target={self.params.target} of the backdoor is not a class; valid: 0 to {classes - 1}"
            )

    def poison_data(self, local_round: LocalRound) -> LocalRound:
        """See `ByzantineBehaviour`."""
        count, generator = len(local_round.labels), local_round.generator
        order = torch.randperm(count, generator=generator, device=generator.device)
        rows = order[: max(1, round(self.params.share * count))]
        images, labels = local_round.images.clone(), local_round.labels.clone()
        images[rows], labels[rows] = stamp(images[rows]), self.params.target
        return replace(local_round, images=images, labels=labels)

    def poison_update(self, received: State, sent: State, local_round: LocalRound) -> State:
        """See `ByzantineBehaviour`."""
        boost = self.params.boost
        return scaled(received, sent, self.total / len(self.clients) if boost is None else boost)


def stamp(images: Tensor) -> Tensor:
    """Copies of ``images``, (N, C, H, W) in [0, 1], with a white and black 3 x 3 checkerboard.

    It is below the middle, a sixteenth of the side from the lower edge; each of its fields is a thirty-second of the
    side. A mirrored image (augmentation) has it in the same place.
    """
    height, width = images.shape[2:]
    side = min(height, width)
    field, margin = max(1, side // 32), side // 16
    board = (torch.arange(9, device=images.device).view(3, 3) % 2 == 0).to(images.dtype)
    board = board.repeat_interleave(field, 0).repeat_interleave(field, 1)
    top, left = height - margin - 3 * field, (width - 3 * field) // 2
    stamped = images.clone()
    stamped[:, :, top : top + 3 * field, left : left + 3 * field] = board
    return stamped


class Trigger(Attack):
    """Stamps the trigger of ``malicious=backdoor`` on every image, without any query.

    The share of predictions it changes, compared with a model trained without a backdoor, is the success of the
    backdoor. It needs ``--eps 1`` (Linf), which allows any image; a smaller eps clips the trigger to the ball.
    """

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Stamped images like ``x``."""
        return threat.project(stamp(x), x)
