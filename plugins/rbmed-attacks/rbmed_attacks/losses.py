"""What an attack maximises: one value per image, larger meaning closer to a wrong answer.

A loss takes logits, (N, K) or for several noise draws (N, D, K), and int64 classes (N,), and returns one value per
answer, (N,) or (N, D). An objective always gets the draws, (N, D, K), and returns one value per image, (N,): unless it
says otherwise the mean of its loss over the draws, whose gradient is the mean of the gradients (EOT).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from robustbench_med import margin
from robustbench_med.errors import BadParameter

Loss = Literal["auto", "ce", "bce", "dlr", "margin", "vote", "logistic"]
TargetedLoss = Literal["auto", "dlr", "margin", "vote", "logistic"]
#: (logits of every draw, labels, targets) -> values; an untargeted objective ignores the targets.
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Negative log-probability of the true class."""
    return F.cross_entropy(logits.flatten(0, -2), _each(y, logits).flatten(), reduction="none").view(logits.shape[:-1])


def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Sum over the wrong classes of log(1 + exp(logit - true logit)); it rises also for classes that have won already.

    Of findings, which are shown as classes whose true one has the logit 0, it is the sum of their cross-entropies.
    """
    gaps = logits - _pick(logits, y).unsqueeze(-1)
    return F.softplus(gaps).sum(-1) - math.log(2)


def targeted_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Target logit minus the true one."""
    return _pick(logits, target) - _pick(logits, y)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, eq. 6): the margin over first minus third logit; K >= 3."""
    _require(logits, 3, "loss 'dlr'")
    top = logits.topk(3, dim=-1).values
    return margin(logits, y) / (top[..., 0] - top[..., 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Targeted difference of logits ratio (Croce & Hein 2020, eq. 7); K >= 4."""
    _require(logits, 4, "targeted loss 'dlr'")
    top = logits.topk(4, dim=-1).values
    return targeted_margin(logits, y, target) / (top[..., 0] - 0.5 * (top[..., 2] + top[..., 3]) + 1e-12)


def logistic(margins: Tensor) -> Tensor:
    """-log(1 + exp(-margin)): for two classes the log-probability of the wrong one, at most 0; like ``margins``.

    A draw that is wrong already counts the less, the more clearly it is wrong.
    """
    return F.logsigmoid(margins)


def vote(margins: Tensor) -> Tensor:
    """How far a majority vote of the draws is from turning: margins (N, D) -> (N,), at most 0.

    The mean over the ``ceil(3 D / 4)`` draws nearest to a wrong answer, each margin clipped at 0. A draw that is won
    counts no more, and draws too hard to be needed for a majority do not count either; a bare majority would be lost
    again on fresh draws, hence three quarters. With one draw this is the clipped margin.
    """
    needed = -(-3 * margins.shape[1] // 4)
    return margins.topk(needed, dim=1).values.clamp_max(0).mean(1)


def level(loss: str, values: Tensor, untargeted: bool, classes: int) -> Tensor:
    """Values (N,) of a loss on a scale on which a wrong answer is at least 0; they keep their order.

    Of the cross-entropy, and nearly so of the binary one, this is the log-sum-exp of the wrong classes minus the true
    logit, which is near the margin and grows with it evenly, as the cross-entropy of an image that is far from a wrong
    answer does not.
    """
    if loss in ("ce", "bce") or (loss == "auto" and untargeted and classes > 2):
        return values.expm1().log()
    return values + math.log(2) if loss == "logistic" else values


def untargeted(loss: Loss) -> Objective:
    """The loss of that name; ``auto`` is ``margin`` for two classes and ``ce`` for more, ``vote`` is `vote` of margins.

    The objective raises `BadParameter` when ``dlr`` meets fewer than 3 classes.
    """

    def objective(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        name = loss if loss != "auto" else "margin" if logits.shape[-1] == 2 else "ce"
        if name == "vote":
            return vote(margin(logits, y))
        if name == "logistic":
            return logistic(margin(logits, y)).mean(1)
        plain = {"ce": cross_entropy, "bce": binary_cross_entropy, "dlr": dlr, "margin": margin}
        return plain[name](logits, y).mean(1)

    return objective


def targeted(loss: TargetedLoss) -> Objective:
    """The targeted loss of that name; ``auto`` is ``margin`` for two or three classes and ``dlr`` for more.

    ``vote`` is `vote` of the targeted margins. The objective raises `BadParameter` when ``dlr`` meets fewer than 4
    classes.
    """

    def objective(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        name = loss if loss != "auto" else "margin" if logits.shape[-1] < 4 else "dlr"
        if name == "vote":
            return vote(targeted_margin(logits, y, target))
        if name == "logistic":
            return logistic(targeted_margin(logits, y, target)).mean(1)
        return {"dlr": targeted_dlr, "margin": targeted_margin}[name](logits, y, target).mean(1)

    return objective


def _each(classes: Tensor, logits: Tensor) -> Tensor:
    """The classes (N,) for every answer: (N,) or (N, D)."""
    return classes.view(-1, *[1] * (logits.dim() - 2)).expand(logits.shape[:-1])


def _pick(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(-1, _each(classes, logits).unsqueeze(-1)).squeeze(-1)


def _require(logits: Tensor, classes: int, what: str) -> None:
    if logits.shape[-1] < classes:
        raise BadParameter(f"{what} needs at least {classes} classes, the model has {logits.shape[-1]}; use 'margin'")
