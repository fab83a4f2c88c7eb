"""What is asked about an image: one class of several, several findings at once, or a grade."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

#: One class of two or more; any number of K findings; one grade of an ordered scale.
Task = Literal["multi-class", "multi-label", "ordinal"]
TASKS: tuple[Task, ...] = ("multi-class", "multi-label", "ordinal")
#: Findings of a multi-label task at most: a set of them is one whole number, see `encode`.
MOST_FINDINGS = 62


def encode(findings: Tensor) -> Tensor:
    """Sets of findings, bool or 0 and 1 (N, K), as whole numbers, int64 (N,): finding k is bit k.

    So a set is compared, counted and stored like a class, and two sets are equal where all their findings are.
    """
    places = torch.arange(findings.shape[1], device=findings.device)
    return ((findings != 0).long() << places).sum(1)


def decode(codes: Tensor, count: int) -> Tensor:
    """The sets of ``count`` findings that `encode` made these numbers of, bool (..., count)."""
    places = torch.arange(count, device=codes.device)
    return (codes.unsqueeze(-1) >> places) % 2 == 1


def training_loss(logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """The loss of logits (N, K): cross-entropy of classes (N,), mean binary cross-entropy of findings (N, K).

    ``reduction`` is over the images.
    """
    if labels.dim() == 1:
        return F.cross_entropy(logits, labels, reduction=reduction)
    loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return loss * len(labels) if reduction == "sum" else loss


def right_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Which answers are right, bool (N,): the class is, or every finding."""
    if labels.dim() == 1:
        return logits.argmax(1) == labels
    return ((logits > 0) == (labels != 0)).all(1)


def label_counts(labels: Tensor, classes: int) -> Tensor:
    """Which labels each image has, int64 (N, classes); of findings there is one column more: none of them."""
    if labels.dim() == 1:
        return F.one_hot(labels, classes)
    held = (labels != 0).long()
    return torch.cat([held, (held.sum(1, keepdim=True) == 0).long()], 1)
