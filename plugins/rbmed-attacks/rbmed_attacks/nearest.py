"""What attacks that look for the smallest change share: the nearest wrong image found, and the nearest boundary."""

from __future__ import annotations

import torch
from torch import Tensor

from rbmed_attacks.gradient_attack import choose
from rbmed_attacks.norms import length, project, to_rim
from robustbench_med import TargetModel, ThreatModel, margin


class Nearest:
    """What a search for the smallest change has found, for each of N images.

    Attributes:
        threat, x, y: norm and eps, the clean images and their labels.
        image: the nearest wrong image, (N, C, H, W); the last one seen where none was wrong.
        distance: its distance, (N,); infinite where none was wrong.
        inside: the image of the ball with the largest margin, (N, C, H, W), and that ``margin``, (N,).
        settles: nothing changes any more for an image once a wrong one was found inside the ball.
    """

    def __init__(self, threat: ThreatModel, x: Tensor, y: Tensor, logits: Tensor, settles: bool = False) -> None:
        self.threat, self.x, self.y, self.settles = threat, x, y, settles
        self.image, self.inside, self.margin = x.clone(), x.clone(), margin(logits, y)
        self.distance = torch.zeros_like(self.margin).masked_fill_(logits.argmax(1) == y, torch.inf)

    def within(self) -> Tensor:
        """bool (N,): a wrong image was found inside the ball."""
        return self.distance <= self.threat.eps

    def update(self, rows: Tensor, images: Tensor, logits: Tensor) -> Tensor:
        """Store the answers to ``images``, variants of the clean images ``rows``; returns which are wrong, bool."""
        y, before = self.y[rows], self.distance[rows]
        distance = length(self.threat, images - self.x[rows]).flatten()
        wrong, value = logits.argmax(1) != y, margin(logits, y)
        closer = wrong & (distance < before)
        higher = (value > self.margin[rows]) & (distance <= self.threat.eps)
        if self.settles:
            open_ = before > self.threat.eps
            closer, higher = closer & open_, higher & open_
        self.image[rows] = choose(closer | before.isinf(), images, self.image[rows])
        self.distance[rows] = torch.where(closer, distance, before)
        self.inside[rows] = choose(higher, images, self.inside[rows])
        self.margin[rows] = torch.where(higher, value, self.margin[rows])
        return wrong

    def result(self, model: TargetModel, may_query: bool) -> Tensor:
        """An image of the ball for each clean one.

        Where the model stops on success: the nearest wrong image, brought into the ball if it lies outside. Elsewhere
        a small margin is easily lost, so it is the image with the largest margin that was found inside, or, if
        ``may_query``, the nearest wrong image moved away to the rim of the ball, if its margin is larger.
        """
        if model.stop_on_success:
            return choose(self.within(), self.image, project(self.threat, self.image, self.x))
        if not may_query:
            return self.inside
        rim = to_rim(self.threat, self.image, self.x, self.distance)
        with torch.no_grad():
            value = margin(model(rim), self.y)
        return choose(value > self.margin, rim, self.inside)


def nearest_plane(threat: ThreatModel, gaps: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of M linearised boundaries, the nearest one's value (N,), gradient (N, C, H, W) and index (N,)."""
    flat = gradients.flatten(2)
    if threat.norm == "linf":
        slope = flat.abs().sum(2)
    else:
        slope = flat.square().sum(2).sqrt() if threat.norm == "l2" else flat.abs().amax(2)
    nearest = (gaps.abs() / (1e-12 + slope)).argmin(1)
    image = torch.arange(len(gaps), device=gaps.device)
    return gaps[image, nearest], gradients[image, nearest], nearest
