"""Figures of ordinal tasks, in which a wrong answer is the worse, the farther it is from the true grade."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rbmed_metrics.classification import share
from robustbench_med import Metric, Outcome, Predictions


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
    if not len(labels):
        return None
    table = torch.zeros(count, count, dtype=torch.float64)
    table.index_put_((labels, given), torch.ones(len(labels), dtype=torch.float64), accumulate=True)
    grades = torch.arange(count, dtype=torch.float64)
    weights = (grades[:, None] - grades).square()
    expected = table.sum(1)[:, None] * table.sum(0) / table.sum()
    chance = float((weights * expected).sum())
    return 1 - float((weights * table).sum()) / chance if chance else None
