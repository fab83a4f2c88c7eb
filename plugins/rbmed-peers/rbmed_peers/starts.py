"""Starting points of decision-based attacks: an image of another class for every image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rbmed_peers.isolation import Opaque

#: Random images tried for each image.
TRIES = 50


@torch.no_grad()
def find(model: Opaque, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Starting points like ``x`` and which of them were found, bool (N,).

    Uniformly random images are tried first, then the batch's images that the model puts into another class. Draws from
    torch's global generator, which the caller has seeded.
    """
    start, found = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(TRIES):
        left = (~found).nonzero()[:, 0]
        if not len(left):
            break
        noise = torch.rand_like(x[left])
        wrong = model(noise).argmax(1) != y[left]
        start[left[wrong]], found[left[wrong]] = noise[wrong], True
    if not found.all():
        label = model(x).argmax(1)
        other = y[:, None] != label[None]  # (N, N): may image j start image i?
        usable = ~found & other.any(1)
        start[usable], found[usable] = x[other[usable].int().argmax(1)], True
    return start, found


def attack_from_start(model: Opaque, x: Tensor, y: Tensor, attack: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The result of ``attack`` on the images that have a starting point; the others are returned as they are.

    ``attack`` gets which images these are, bool (N,), and their starting points.
    """
    start, found = find(model, x, y)
    result = x.clone()
    if found.any():
        result[found] = attack(found, start[found])
    return result
