"""What detector and purifier did: how well attacked images are told from clean ones, and what is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rbmed_metrics.classification import share
from robustbench_med import Metric, Outcome


class Detection(Metric):
    """AUROC, FPR and TPR. Undefined (None) for a system without a detector."""

    def compute(self, outcome: Outcome) -> dict[str, Any]:
        """``detector_fpr`` and ``detector_tpr`` hold at the deployed threshold; the others sweep it.

        A score that is NaN is wrong: the highest of all on a clean image, the lowest on an attacked one.
        """
        clean, attacked = outcome.clean.scores.flatten(), outcome.attacked.scores.flatten()
        if clean.isnan().any() or attacked.isnan().any():
            return {}
        from sklearn.metrics import roc_auc_score  # most of a second, after the first cell

        lost = (outcome.clean.scores == -torch.inf) & outcome.clean.not_finite
        clean = torch.where(lost.flatten(), torch.inf, clean)
        truth = torch.cat([torch.zeros_like(clean), torch.ones_like(attacked)])
        # Only the order counts; ranks are finite.
        ranks = np.unique(torch.cat([clean, attacked]).numpy(), return_inverse=True)[1]
        undetected_and_wrong = ~outcome.attacked.flagged & (outcome.attacked.predictions != outcome.labels)
        return {
            "detector_auroc": float(roc_auc_score(truth.numpy(), ranks)),
            "detector_fpr": share(outcome.clean.flagged | lost, outcome.patients),
            "detector_tpr": share(outcome.attacked.flagged, outcome.patients),
            "detector_tpr_at_1": _tpr_at(clean, attacked, 0.01),
            "detector_tpr_at_5": _tpr_at(clean, attacked, 0.05),
            "undetected_and_wrong": share(undetected_and_wrong, outcome.patients),
        }


def _tpr_at(clean: Tensor, attacked: Tensor, fpr: float) -> float:
    """Share of attacked scores above the clean scores' (1 - fpr) quantile."""
    threshold = torch.quantile(clean, 1 - fpr, interpolation="higher")
    return float((attacked > threshold).float().mean())


class Purification(Metric):
    """Shares of images flagged, changed and rejected, and the size of the change."""

    def compute(self, outcome: Outcome) -> dict[str, Any]:
        """``purified_rmse`` is the mean over changed attacked images, in units of the pixel range [0, 1]."""
        changed = outcome.attacked.changed
        rmse = outcome.attacked.purified_rmse[changed]
        rmse = rmse[rmse.isfinite()]
        return {
            "clean_flagged": share(outcome.clean.flagged, outcome.patients),
            "clean_changed": share(outcome.clean.changed, outcome.patients),
            "clean_rejected": share(outcome.clean.rejected, outcome.patients),
            "attacked_flagged": share(outcome.attacked.flagged, outcome.patients),
            "attacked_changed": share(changed, outcome.patients),
            "attacked_rejected": share(outcome.attacked.rejected, outcome.patients),
            "purified_rmse": float(rmse.mean()) if len(rmse) else None,
        }
