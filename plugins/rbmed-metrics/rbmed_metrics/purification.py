"""What the gate and the purifier did."""

from __future__ import annotations

from typing import Any

from rbmed_metrics.classification import share
from robustbench_med import Metric, Outcome


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
