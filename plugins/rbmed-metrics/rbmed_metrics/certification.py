"""Certified accuracy beside the accuracy under attack, of cells with certificates (`rbmed certify`)."""

from __future__ import annotations

from typing import Any

from rbmed_metrics.classification import share
from robustbench_med import Metric, Outcome


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
