"""Accuracy of the deployed system on clean and attacked images.

Pipelines that draw noise are scored on several new draws: an accuracy is the mean over draws (what one submission of
an image meets), ``majority`` is the vote over the draws, and ``any_of_n`` counts an image as lost if any draw was wrong
(what an attacker who may resubmit achieves).

Where they were requested, ``robust_8bit`` is of adversarial images rounded to 8 bits, and ``clean_fixed_noise`` and
``robust_fixed_noise`` are of a system with one noise for all images.

``robust_accuracy`` counts a withheld answer as withstood; ``robust_answered`` counts right answers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robustbench_med import Metric, Outcome, Rate


def share(hits: Tensor, patients: Sequence[str]) -> Rate:
    """The share of True in bool (draws, N), as a mean over draws of ``N`` images of these patients."""
    images = hits.float().mean(0)
    return Rate(float(images.sum()), len(images), Rate.of(images.tolist(), patients).patients)


def share_of(hits: Tensor, members: Tensor, patients: Sequence[str]) -> Rate:
    """The share of True among the images where ``members``, bool (N,), holds."""
    return share(hits[:, members], [patients[row] for row in members.nonzero().flatten().tolist()])


class Classification(Metric):
    """Clean and robust accuracy, per class and for lesions."""

    def compute(self, outcome: Outcome) -> dict[str, Any]:
        """Shares with their counts; sensitivity and lesion rates only where the data set has a lesion class."""
        labels, patients = outcome.labels, outcome.patients
        correct, robust = outcome.clean.correct(labels), outcome.attacked.robust(labels)
        figures: dict[str, Any] = {
            "clean_accuracy": share(correct, patients),
            "robust_accuracy": share(robust, patients),
            "robust_answered": share(outcome.attacked.correct(labels), patients),
            # An image the system got wrong before the attack is no success of the attack.
            "attack_success": share_of(~robust, correct.float().mean(0) > 0.5, patients),
        }
        if outcome.task != "multi-label":  # each set of findings would be a class of its own
            figures["clean_balanced_accuracy"] = _balanced(correct, labels)
            figures["robust_balanced_accuracy"] = _balanced(robust, labels)
        if len(correct) > 1:
            for side, hits in (("robust", robust), ("clean", correct)):
                figures[f"{side}_majority"] = share(hits.float().mean(0, keepdim=True) > 0.5, patients)
                figures[f"{side}_any_of_n"] = share(hits.all(0, keepdim=True), patients)
        for name, answers in outcome.also.items():
            side, _, how = name.partition("_")
            hits = answers.correct(labels) if side == "clean" else answers.robust(labels)
            figures[f"{'clean' if side == 'clean' else 'robust'}_{how}"] = share(hits, patients)
        if outcome.lesion_class is not None:
            lesion, seen = labels == outcome.lesion_class, outcome.attacked.predictions == outcome.lesion_class
            figures |= {
                "clean_sensitivity": share_of(correct, lesion, patients),
                "clean_specificity": share_of(correct, ~lesion, patients),
                "robust_sensitivity": share_of(robust, lesion, patients),
                "robust_specificity": share_of(robust, ~lesion, patients),
                "hidden_lesion_rate": share_of(~robust, lesion, patients),
                # An answer that is not finite is wrong here as well.
                "fake_lesion_rate": share_of(
                    seen & ~outcome.attacked.rejected | outcome.attacked.not_finite, ~lesion, patients
                ),
            }
        return figures


def _balanced(hits: Tensor, labels: Tensor) -> float | None:
    """Mean over the classes that occur of the share of True."""
    rates = [hits[:, labels == label].float().mean() for label in sorted(set(labels.tolist()))]
    return float(torch.stack(rates).mean()) if rates else None


class Certification(Metric):
    """The certified lower bound of the robust accuracy at eps, and its distance to the attacked upper bound."""

    def compute(self, outcome: Outcome) -> dict[str, Any]:
        """Nothing without certificates.

        ``certified_accuracy`` is the share of images whose smoothed answer is right and certified at eps,
        ``certified_gap`` the robust accuracy minus it, ``certified_abstained`` the share for which nothing is
        certified, and ``certified_radius`` the mean radius.
        """
        if not outcome.certified:
            return {}
        held, radius = outcome.certified["held"], outcome.certified["radius"]
        robust = outcome.attacked.robust(outcome.labels).float().mean()
        return {
            "certified_accuracy": share(held[None], outcome.patients),
            "certified_abstained": share((radius == 0)[None], outcome.patients),
            "certified_gap": float(robust - held.float().mean()) if len(held) else None,
            "certified_radius": float(radius.mean()) if len(radius) else None,
        }
