"""Combines the predictions on several purified copies."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Vote = Literal["majority", "mean"]


def vote(logits: Tensor, how: Vote) -> Tensor:
    """Log-probabilities (N, K) from the logits (N, V, K) of V voters.

    ``mean`` is log m, with m the mean of the voters' softmax. ``majority`` is log((v + m) / (V + 1)), with v_k the
    number of voters for class k: the largest is the class with most votes, m decides between equal numbers, and
    gradients flow through m (counts have none).
    """
    voters = logits.shape[1]
    # In logarithms: probabilities of very confident voters underflow, and log 0 has no gradient.
    log_mean: Tensor = logits.log_softmax(2).logsumexp(1) - math.log(voters)
    if how == "mean":
        return log_mean
    counts = F.one_hot(logits.argmax(2), logits.shape[2]).sum(1).to(logits.dtype)
    return counts.log().logaddexp(log_mean) - math.log(voters + 1)
