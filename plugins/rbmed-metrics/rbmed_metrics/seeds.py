"""Results averaged over training seeds, to separate differences between defenses from training noise."""

from __future__ import annotations

import pandas as pd

from rbmed_metrics.cells import ATTACK, DEFENSE, attack, component, dataset, drop_unused, images, words
from rbmed_metrics.reports import Markdown
from robustbench_med import Report, escape_markdown, percent, without_shared_params

#: One row for each combination of these; training seeds are averaged.
KEYS = [*ATTACK, *DEFENSE]
#: Columns that not every table has.
BOUNDS = ("clean_worst", "robust_worst", "robust_accuracy_low", "robust_accuracy_high", "patients")


class Seeds(Report):
    """Mean, smallest and largest value over training seeds, in percent.

    ``95 %`` reaches from the lowest to the highest bound of the seeds' intervals, which count patients where these are
    recorded. All seeds are tested on the same images, so that more seeds do not narrow it. ``images/patients``: a
    dash where patients are not recorded.
    ``worst`` is the mean over seeds of the worst client's accuracy, whichever client that is.
    """

    pools_folds = True

    def render(self, table: pd.DataFrame) -> str:
        """The measured rows as Markdown; a cell that occurs twice counts as it was measured last."""
        done = table[table["status"] == "ok"]
        # Columns are there even if no record has the figure (a single client has no worst one).
        done = done.reindex(columns=list(dict.fromkeys([*done.columns, *KEYS, *BOUNDS])))
        done = done.drop_duplicates([*KEYS, "train_seed"], keep="last")
        rows = [_row(group) for _, group in done.groupby(KEYS, dropna=False, sort=False)]
        frame, notes = pd.DataFrame(rows), []
        for column in ("defense", "strategy") if rows else ():
            frame[column], shared = without_shared_params(frame[column])
            notes.append(shared)
        # The strategy is a parameter of the defense or a column of its own; what all rows share is noted once.
        note = f"\nAll with {escape_markdown(notes[-1] or notes[0])}.\n" if any(notes) else ""
        return Markdown().render(drop_unused(frame, "training")) + note


def _row(group: pd.DataFrame) -> dict[str, str | int]:
    first = group.iloc[0]
    low, high = group["robust_accuracy_low"].min(), group["robust_accuracy_high"].max()
    return {
        "data set": dataset(first),
        "defense": component(first["defense"], first["defense_params"]),
        "strategy": component(first["strategy"], first["strategy_params"]),
        "training": words(first["training"]),
        "attack": attack(first),
        "clean": percent(group["clean_accuracy"].mean()),
        "clean range": _range(group["clean_accuracy"]),
        "worst clean": percent(group["clean_worst"].mean()),
        "robust": percent(group["robust_accuracy"].mean()),
        "robust range": _range(group["robust_accuracy"]),
        "95 %": "" if pd.isna(low) else f"[{percent(low)}, {percent(high)}]",
        "worst robust": percent(group["robust_worst"].mean()),
        "images/patients": images(first),
        "seeds": len(group),
    }


def _range(shares: pd.Series) -> str:
    return f"{percent(shares.min())} to {percent(shares.max())}"
