"""What an attack maximises: one value per image, larger meaning closer to a wrong answer.

All functions take logits (N, K) and int64 classes (N,), and return (N,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_med.errors import BadParameter

Loss = Literal["auto", "ce", "dlr", "margin"]
TargetedLoss = Literal["auto", "dlr", "margin"]
#: (logits, labels, targets) -> values; an untargeted loss ignores the targets.
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong logit minus the true one: positive exactly where the answer is wrong.

    Not normalised: neither the sign of its gradient nor its direction changes when all logits are multiplied by a
    constant, whereas the gradient of cross-entropy underflows (see ``docs/attacks.md``).
    """
    top = logits.topk(2, dim=1)
    wrong = torch.where(top.indices[:, 0] == y, top.values[:, 1], top.values[:, 0])
    return wrong - _pick(logits, y)


def targeted_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Target logit minus the true one."""
    return _pick(logits, target) - _pick(logits, y)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, eq. 6): the margin over first minus third logit; K >= 3."""
    _require(logits, 3, "loss 'dlr'")
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Targeted difference of logits ratio (Croce & Hein 2020, eq. 7); K >= 4."""
    _require(logits, 4, "targeted loss 'dlr'")
    top = logits.topk(4, dim=1).values
    return targeted_margin(logits, y, target) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)


def untargeted(loss: Loss) -> Objective:
    """The loss of that name; ``auto`` is ``margin`` for two classes and ``ce`` for more.

    The objective raises `BadParameter` when ``dlr`` meets fewer than 3 classes.
    """

    def objective(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        name = loss if loss != "auto" else "margin" if logits.shape[1] == 2 else "ce"
        if name == "ce":
            return F.cross_entropy(logits, y, reduction="none")
        return dlr(logits, y) if name == "dlr" else margin(logits, y)

    return objective


def targeted(loss: TargetedLoss) -> Objective:
    """The targeted loss of that name; ``auto`` is ``margin`` for two or three classes and ``dlr`` for more.

    The objective raises `BadParameter` when ``dlr`` meets fewer than 4 classes.
    """

    def objective(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        name = loss if loss != "auto" else "margin" if logits.shape[1] < 4 else "dlr"
        return (targeted_dlr if name == "dlr" else targeted_margin)(logits, y, target)

    return objective


def _pick(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None]).squeeze(1)


def _require(logits: Tensor, classes: int, what: str) -> None:
    if logits.shape[1] < classes:
        raise BadParameter(f"{what} needs at least {classes} classes, the model has {logits.shape[1]}; use 'margin'")
