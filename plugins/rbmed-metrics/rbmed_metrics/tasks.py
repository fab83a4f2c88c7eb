"""Figures of multi-label tasks, and of ordinal ones, in which a wrong answer is the worse, the farther it is off.

``clean_accuracy`` and ``robust_accuracy`` of a multi-label task count images on which every finding is answered rightly
(exact match). Here an image counts with each of its findings, and figures are means over these.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from rbmed_metrics.classification import share
from robustbench_med import Metric, Outcome, Predictions, decode


class Findings(Metric):
    """Macro AUC, macro F1, balanced accuracy and accuracy over the findings, and balanced accuracy and AUC of each."""

    def compute(self, outcome: Outcome) -> dict[str, Any]:
        """Nothing for other tasks. A finding that no image has, or all, is left out of AUC and balanced accuracy.

        A withheld answer counts as right under attack and as wrong on a clean image, as everywhere, and not in an AUC.
        """
        if outcome.task != "multi-label":
            return {}
        figures: dict[str, Any] = {}
        truth = decode(outcome.labels, outcome.num_classes)
        for side, answers in (("clean", outcome.clean), ("robust", outcome.attacked)):
            right = _right(answers, truth, withheld=side == "robust")
            balanced = [_balanced(right[..., k], truth[:, k]) for k in range(outcome.num_classes)]
            curves = [_auc(answers, truth, k) for k in range(outcome.num_classes)]
            figures |= {
                f"{side}_macro_auc": _mean(curves),
                f"{side}_macro_f1": _mean([_f1(right[..., k], truth[:, k]) for k in range(outcome.num_classes)]),
                f"{side}_macro_balanced_accuracy": _mean(balanced),
                f"{side}_finding_accuracy": float(right.float().mean()),
            }
            for name, of_finding, curve in zip(outcome.classes, balanced, curves, strict=True):
                figures |= {f"{side}_balanced_accuracy: {name}": of_finding, f"{side}_auc: {name}": curve}
        return figures


def _right(answers: Predictions, truth: Tensor, withheld: bool) -> Tensor:
    """bool (draws, N, K): the finding is answered rightly; ``withheld`` answers count so."""
    right = decode(answers.predictions, truth.shape[1]) == truth
    right &= ~answers.not_finite.unsqueeze(-1)
    rejected = answers.rejected.unsqueeze(-1)
    return right | rejected if withheld else right & ~rejected


def _balanced(right: Tensor, held: Tensor) -> float | None:
    """The mean of sensitivity and specificity; ``right`` is (draws, N)."""
    if held.all() or not held.any():
        return None
    return float((right[:, held].float().mean() + right[:, ~held].float().mean()) / 2)


def _f1(right: Tensor, held: Tensor) -> float | None:
    """2 TP / (2 TP + FP + FN) over all draws; None where there is neither."""
    hits, misses, false = (right & held).sum(), (~right & held).sum(), (~right & ~held).sum()
    total = 2 * hits + misses + false
    return float(2 * hits / total) if total else None


def _auc(answers: Predictions, truth: Tensor, finding: int) -> float | None:
    """Mean over the draws; an answer that is not finite ranks as wrongly as can be."""
    from sklearn.metrics import roc_auc_score  # most of a second, after the first cell

    if answers.logits is None:
        return None
    found = []
    for logits, rejected in zip(answers.logits[..., finding], answers.rejected, strict=True):
        held, scores = truth[~rejected, finding], logits[~rejected]
        if held.all() or not held.any():
            continue
        worst = torch.where(held, -torch.inf, torch.inf)
        ranks = torch.unique(torch.where(scores.isfinite(), scores, worst), return_inverse=True)[1]
        found.append(float(roc_auc_score(held.numpy(), ranks.numpy())))
    return _mean(found)


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


class Grades(Metric):
    """Mean absolute error, quadratic weighted kappa, and the share of answers off by more than one grade."""

    def compute(self, outcome: Outcome) -> dict[str, Any]:
        """Nothing for other tasks. An answer that is not finite is as far off as can be.

        Withheld answers are left out of error and kappa; the share counts them as not off, as robust accuracy does.
        """
        if outcome.task != "ordinal":
            return {}
        figures: dict[str, Any] = {}
        for side, answers in (("clean", outcome.clean), ("robust", outcome.attacked)):
            given = _grades(answers, outcome.labels, outcome.num_classes)
            off = (given - outcome.labels).abs()
            kept = ~answers.rejected
            labels = outcome.labels.expand_as(given)[kept]
            figures |= {
                f"{side}_mean_absolute_error": float(off[kept].double().mean()) if kept.any() else None,
                f"{side}_quadratic_kappa": quadratic_kappa(labels, given[kept], outcome.num_classes),
                f"{side}_off_by_more_than_one": share((off > 1) & kept, outcome.patients),
            }
        return figures


def _grades(answers: Predictions, labels: Tensor, count: int) -> Tensor:
    """The answered grades, int64 (draws, N)."""
    farthest = torch.where(labels >= count - 1 - labels, 0, count - 1)
    return torch.where(answers.not_finite, farthest, answers.predictions)


def quadratic_kappa(labels: Tensor, given: Tensor, count: int) -> float | None:
    """Cohen's kappa with quadratic weights (Cohen 1968); None where chance would agree wholly, or without answers.

    Args:
        labels: true grades, int64 (N,).
        given: answered grades, int64 (N,).
        count: how many grades there are.
    """
    if len(torch.unique(torch.cat([labels, given]))) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score  # most of a second, after the first cell

    return float(cohen_kappa_score(labels.numpy(), given.numpy(), labels=range(count), weights="quadratic"))
