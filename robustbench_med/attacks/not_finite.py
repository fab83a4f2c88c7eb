"""Answers that are not finite, as an adversary sees them: no answer, which counts as wrong."""

from __future__ import annotations

import torch
from torch import Tensor

#: The logit of every class but the true one in place of an answer that is not finite, and minus that of the true one:
#: certain enough for any loss to prefer it, small enough for a mean over noise draws to be decided by the others.
NO_ANSWER = 10.0


def answered(logits: Tensor, y: Tensor, finite: Tensor) -> Tensor:
    """Logits (N, K) of which each row that is not finite is a plain wrong answer, without a gradient.

    The score of a deployed system counts such an answer as wrong. An attack that saw NaN would pass over it instead:
    NaN is never greater than the best loss so far, and `argmax` makes a class of it, which may be the true one.

    Args:
        logits: (N, K).
        y: the true classes as the adversary sees them, int64 (N,).
        finite: bool (N,), which answers are finite.
    """
    wrong = torch.full_like(logits, NO_ANSWER).scatter(1, y[:, None], -NO_ANSWER)
    return torch.where(finite[:, None], logits, wrong)
