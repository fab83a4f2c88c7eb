"""Divergences of two predictions, and purified copies of an image to compare with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter

Divergence = Literal["js", "flip", "l1"]


def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two batches of logits.

    Args:
        a: logits, shape (..., K).
        b: logits, shape (..., K).

    Returns:
        Divergence in nats, shape (...), from 0 (equal) to ln 2 (confident, and different), in the type of ``a``.
    """
    # For equal predictions the difference of logarithms is near 0; its rounding errors in float32 would be as large as
    # the scores of most clean images, and the threshold lies among those.
    log_p, log_q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    divergence = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return divergence.sum(-1).div(2).to(a.dtype)


def l1(a: Tensor, b: Tensor) -> Tensor:
    """L1 distance of the softmax of two batches of logits (..., K), from 0 to 2, shape (...), type of ``a``."""
    return (a.double().softmax(-1) - b.double().softmax(-1)).abs().sum(-1).to(a.dtype)


def flip(a: Tensor, b: Tensor) -> Tensor:
    """1 where the labels of two batches of logits (..., K) differ, else 0, shape (...).

    The gradient is that of the probability that two labels drawn from the two predictions differ (straight-through).
    """
    hard = (a.argmax(-1) != b.argmax(-1)).to(a.dtype)
    soft = 1 - (a.softmax(-1) * b.softmax(-1)).sum(-1)
    return hard + (soft - soft.detach())


DIVERGENCES: dict[Divergence, Callable[[Tensor, Tensor], Tensor]] = {"js": jensen_shannon, "flip": flip, "l1": l1}

#: The largest divergence of two predictions of which one gives two classes the same probability, and the other is
#: certain of one of them: js(1/2, 1/2; 1, 0) and l1 of the same. A flip of labels knows no confidence.
BOUNDARY: dict[Divergence, float | None] = {"js": 1.5 * math.log(2) - 0.75 * math.log(3), "l1": 1.0, "flip": None}


def purified(x: Tensor, system: rbmed.System, rng: rbmed.Stream, draws: int, strength: float, name: str) -> Tensor:
    """Several purifications of each image by the system's purifier, each with its own noise.

    Args:
        x: images (N, C, H, W).
        system: has the purifier.
        rng: one stream per image.
        draws: purifications of each image.
        strength: of the purification, in [0, 1].
        name: of the detector and its setting, for the error message.

    Returns:
        (N, draws, votes, C, H, W), ``votes`` being the copies that the purifier makes each time.

    Raises:
        BadParameter: the system has no purifier.
    """
    if system.purifier is None:
        raise BadParameter(f"detector {name} needs a defense with a purifier; this one has none")
    strengths = x.new_full((len(x) * draws,), strength)
    copies = system.purifier.copies(x.repeat_interleave(draws, 0), strengths, rng.repeat(draws))
    return copies.view(len(x), draws, *copies.shape[1:])


def purified_logits(
    x: Tensor, system: rbmed.System, rng: rbmed.Stream, draws: int, strength: float, name: str
) -> Tensor:
    """The classifier's logits after purification, as in the pipeline, (N, draws, K); see `purified`."""
    copies = purified(x, system, rng, draws, strength, name)
    logits: Tensor = system.classifier(copies.flatten(0, 2))
    assert system.purifier is not None
    joined = system.purifier.join(logits.reshape(len(x) * draws, copies.shape[2], -1))
    return joined.reshape(len(x), draws, -1)
