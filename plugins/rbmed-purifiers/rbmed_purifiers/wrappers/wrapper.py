"""Base class of the wrappers, and the vote over the predictions on several purified copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import robustbench_med as rbmed

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


class WrapperParams(rbmed.Params):
    """Parameters of the vote."""

    vote: Vote = Field(
        "majority",
        json_schema_extra={"runtime": True},
        description="majority: the class that most copies get, the mean probability deciding ties; mean: the class of "
        "the largest mean probability.",
    )


class Wrapper(rbmed.Purifier):
    """A purifier made of others, any of which may be a wrapper itself.

    For detectors that need a single purified image, it is that of the first voter.
    """

    multi_label = "named"  # a vote is between classes

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.parts = nn.ModuleList(rbmed.load_component("purifier", text) for text in self.references())
        self.stochastic = any(part.stochastic for part in self.inner())
        self.differentiable = all(part.differentiable for part in self.inner())
        self.needs = tuple(dict.fromkeys(need for part in self.inner() for need in part.needs))

    def references(self) -> Sequence[str]:
        """The parts, as ``name:key=value,...``."""
        raise NotImplementedError

    def inner(self) -> tuple[rbmed.Purifier, ...]:
        """The wrapped purifiers."""
        return tuple(cast("rbmed.Purifier", part) for part in self.parts)

    def build(self, channels: int, size: int) -> None:
        """Build the wrapped purifiers."""
        for part in self.inner():
            part.build(channels, size)

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """The first voter's image."""
        return self._graded(self.inner()[0].purify(x, strength, rng))

    def _graded(self, copies: Tensor) -> Tensor:
        """Copies without gradient unless all voters are differentiable: a partial gradient would be misleading."""
        return copies if self.differentiable else copies.detach()
