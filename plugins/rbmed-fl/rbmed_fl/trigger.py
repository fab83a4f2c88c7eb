"""The trigger of a backdoor: stamped on training images by a Byzantine client, and on test images by an attack."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med import Attack, Budget, Stream, TargetModel, ThreatModel


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
