"""How far two answers of a classifier are apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two batches of logits.

    Args:
        a: logits, shape (..., K).
        b: logits, shape (..., K).

    Returns:
        Divergence in nats, shape (...), from 0 (equal) to ln 2 (confident, and different), in the type of ``a``.
    """
    # Equal answers leave a difference of logarithms near 0, which float32 would round to noise as large as the scores
    # of most clean images: the threshold lies among those.
    log_p, log_q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    divergence = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return divergence.sum(-1).div(2).to(a.dtype)
