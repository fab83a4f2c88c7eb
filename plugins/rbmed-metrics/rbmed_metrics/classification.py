"""Accuracy of the deployed system on clean and attacked images.

Pipelines that draw noise are scored on several new draws: an accuracy is the mean over draws (what one submission of
an image meets), ``majority`` is the vote over the draws, and ``any_of_n`` counts an image as lost if any draw was wrong
(what an attacker who may resubmit achieves).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustbench_med import Metric, Outcome, Rate


def share(hits: Tensor) -> Rate:
    """The share of True in bool (draws, N), as a mean over draws of ``N`` images."""
    return Rate(float(hits.float().mean(0).sum()), hits.shape[1])


def share_of(hits: Tensor, members: Tensor) -> Rate:
    """The share of True among the images where ``members``, bool (N,), holds."""
    return share(hits[:, members])


class Classification(Metric):
    """Clean and robust accuracy, per class and for lesions."""

    def compute(self, outcome: Outcome) -> dict[str, Any]:
        """Shares with their counts; sensitivity and lesion rates only where the data set has a lesion class."""
        labels = outcome.labels
        correct, robust = outcome.clean.correct(labels), outcome.attacked.robust(labels)
        figures: dict[str, Any] = {
            "clean_accuracy": share(correct),
            "robust_accuracy": share(robust),
            "clean_balanced_accuracy": _balanced(correct, labels),
            "robust_balanced_accuracy": _balanced(robust, labels),
            # An image the system got wrong before the attack is no success of the attack.
            "attack_success": share_of(~robust, correct.float().mean(0) > 0.5),
        }
        if len(correct) > 1:
            figures["robust_majority"] = share(robust.float().mean(0, keepdim=True) > 0.5)
            figures["robust_any_of_n"] = share(robust.all(0, keepdim=True))
            figures["clean_majority"] = share(correct.float().mean(0, keepdim=True) > 0.5)
        if outcome.lesion_class is not None:
            lesion = labels == outcome.lesion_class
            figures |= {
                "clean_sensitivity": share_of(correct, lesion),
                "clean_specificity": share_of(correct, ~lesion),
                "robust_sensitivity": share_of(robust, lesion),
                "robust_specificity": share_of(robust, ~lesion),
                "hidden_lesion_rate": share_of(~robust, lesion),
                "fake_lesion_rate": share_of(
                    (outcome.attacked.predictions == outcome.lesion_class) & ~outcome.attacked.rejected, ~lesion
                ),
            }
        return figures


def _balanced(hits: Tensor, labels: Tensor) -> float | None:
    """Mean over the classes that occur of the share of True."""
    rates = [hits[:, labels == label].float().mean() for label in sorted(set(labels.tolist()))]
    return float(torch.stack(rates).mean()) if rates else None
