"""A comparison of detectors: under each attack, how well each separates attacked from clean images."""

from __future__ import annotations

import pandas as pd

from rbmed_metrics.cells import ATTACK, DEFENSE, attack, component, dataset, images, words
from rbmed_metrics.reports import Markdown
from robustbench_med import Report, escape_markdown, percent, without_shared_params

#: One cell for each combination of these.
KEYS = (*ATTACK, *DEFENSE, "train_seed")
FIGURES = (
    "detector_auroc",
    "detector_auroc_low",
    "detector_auroc_high",
    "detector_tpr_at_1",
    "detector_tpr_at_5",
    "detector_fpr",
    "detector_tpr",
    "undetected_and_wrong",
    "robust_accuracy",
    "patients",
)


class Detectors(Report):
    """One row for each defense with a detector, attack and rung; grouped by attack, highest AUROC first.

    ``AUROC``: 0.5 is chance; with its interval where records have one. ``TPR at 1 %`` and ``at 5 %``: share of attacked
    images above the clean test scores' quantile. ``FPR`` and ``TPR``: at the deployed threshold, fixed on calibration
    images. ``slips by``: share of attacked images that are not flagged and answered wrongly. All but AUROC in percent.
    """

    pools_folds = True

    def render(self, table: pd.DataFrame) -> str:
        """The measured rows as Markdown; a cell that occurs twice counts as it was measured last."""
        table = table.reindex(columns=list(dict.fromkeys([*table.columns, *KEYS, *FIGURES])))
        done = table[(table["status"] == "ok") & table["detector_auroc"].notna()]
        done = done.drop_duplicates([*KEYS], keep="last")
        if done.empty:
            return "No record of a defense with a detector.\n"
        # Attacks in the order of their first record.
        groups = [group for _, group in done.groupby([*ATTACK], dropna=False, sort=False)]
        best = [group.sort_values("detector_auroc", ascending=False, kind="stable") for group in groups]
        frame = pd.DataFrame([_row(row) for _, row in pd.concat(best).iterrows()])
        notes = []
        for column in ("defense", "strategy"):
            frame[column], shared = without_shared_params(frame[column])
            notes += [shared] if shared else []
        note = f"\nAll with {escape_markdown(', '.join(notes))}.\n" if notes else ""
        return Markdown().render(frame.loc[:, (frame != "").any()]) + note


def _row(row: pd.Series) -> dict[str, str | int]:
    low, high = row["detector_auroc_low"], row["detector_auroc_high"]
    return {
        "data set": dataset(row),
        "attack": attack(row),
        "defense": component(row["defense"], row["defense_params"]),
        "strategy": component(row["strategy"], row["strategy_params"]),
        "training": words(row["training"]),
        "train seed": words(f"{row['train_seed']:g}" if row["train_seed"] else ""),
        "AUROC": f"{row['detector_auroc']:.3f}" + ("" if pd.isna(low) else f" [{low:.3f}, {high:.3f}]"),
        "TPR at 1 %": percent(row["detector_tpr_at_1"]),
        "TPR at 5 %": percent(row["detector_tpr_at_5"]),
        "FPR": percent(row["detector_fpr"]),
        "TPR": percent(row["detector_tpr"]),
        "slips by": percent(row["undetected_and_wrong"]),
        "robust": percent(row["robust_accuracy"]),
        "images/patients": images(row),
    }
