"""The same defense trained several times: what is left of a difference once training noise is averaged out."""

from __future__ import annotations

import pandas as pd

from rbmed_metrics.cells import attack, component, dataset, percent
from rbmed_metrics.reports import Markdown
from robustbench_med import Rate, Report, wilson, without_shared_params

#: What tells one row from another; the training seed is what is averaged over.
KEYS = ["dataset", "partition", "unseen", "defense", "defense_params", "strategy", "strategy_params", "attack",
        "attack_params", "norm", "eps", "access", "n", "seed"]  # fmt: skip


class Seeds(Report):
    """Mean over training seeds, in percent, beside the smallest and the largest.

    ``95 %`` is the Wilson interval of the mean robust accuracy on that many images. The seeds are tested on the same
    images, so they do not add to the images; the interval says nothing about another training, the range does.
    ``worst`` is the mean over seeds of the worst client's accuracy, whichever client that is.
    """

    def render(self, table: pd.DataFrame) -> str:
        """The measured rows as Markdown; a cell that occurs twice counts as it was measured last."""
        done = table[table["status"] == "ok"]
        # Figures that no record has (a single client has no worst one) are columns all the same.
        done = done.reindex(columns=list(dict.fromkeys([*done.columns, *KEYS, "clean_worst", "robust_worst"])))
        done = done.drop_duplicates([*KEYS, "train_seed"], keep="last")
        rows = [_row(group) for _, group in done.groupby(KEYS, dropna=False, sort=False)]
        frame, notes = pd.DataFrame(rows), []
        for column in ("defense", "strategy") if rows else ():
            frame[column], shared = without_shared_params(frame[column])
            notes.append(shared)
        # The strategy of a defense is one of its parameters or stands beside it: what all share is told once.
        note = f"\nAll with {notes[-1] or notes[0]}.\n" if any(notes) else ""
        return Markdown().render(frame) + note


def _row(group: pd.DataFrame) -> dict[str, str | int]:
    first = group.iloc[0]
    images, robust = int(first["n"]), group["robust_accuracy"].mean()
    low, high = wilson(Rate(robust * images, images))
    return {
        "data set": dataset(first),
        "defense": component(first["defense"], first["defense_params"]),
        "strategy": component(first["strategy"], first["strategy_params"]),
        "attack": attack(first),
        "clean": percent(group["clean_accuracy"].mean()),
        "clean range": _range(group["clean_accuracy"]),
        "worst clean": percent(group["clean_worst"].mean()),
        "robust": percent(robust),
        "robust range": _range(group["robust_accuracy"]),
        "95 %": f"[{percent(low)}, {percent(high)}]",
        "worst robust": percent(group["robust_worst"].mean()),
        "images": images,
        "seeds": len(group),
    }


def _range(shares: pd.Series) -> str:
    return f"{percent(shares.min())} to {percent(shares.max())}"
