"""Corruptions as MedMNIST-C reports them: balanced errors over the severities, relative to a baseline."""

from __future__ import annotations

import pandas as pd

import robustbench_med as rbmed
from rbmed_metrics.cells import DEFENSE, IMAGES, THREAT, component, dataset, drop_unused, words
from rbmed_metrics.reports import Markdown
from robustbench_med import Field, Report, percent

KEYS = (*IMAGES, *DEFENSE, "train_seed")
#: Severities of a whole mean.
SEVERITIES = 5


class Corruptions(Report):
    """One row for each defense and corruption, and one for the mean over corruptions (arXiv:2406.17536, section 3.3).

    ``BE``: balanced error (1 - balanced accuracy), mean over the severities that were measured, in percent; their
    number where it is not 5. ``CE``: the sum of these errors divided by the baseline's. ``rCE``: the same of the errors
    beyond those on clean images. The baseline is the first defense of the same images whose name is the parameter
    ``baseline``; ratios are empty without one, or where its error is 0.
    """

    pools_folds = True

    class Params(rbmed.Params):
        baseline: str = Field("undefended", description="Name of the defense that errors are divided by.")

    def render(self, table: pd.DataFrame) -> str:
        """The measured corruptions as Markdown; a cell that occurs twice counts as it was measured last."""
        figures = ("clean_balanced_accuracy", "robust_balanced_accuracy")
        table = table.reindex(columns=list(dict.fromkeys([*table.columns, *KEYS, *THREAT, *figures])))
        done = table[(table["status"] == "ok") & (table["norm"] == "corruption")].copy()
        if done.empty:
            return "No record of a corruption.\n"
        done["corruption"] = [_name(row) for _, row in done.iterrows()]
        done = done.drop_duplicates([*KEYS, "corruption", *THREAT], keep="last")
        rows = []
        # The baseline of the same images: a fold, a client or a limit has others.
        for _, data in done.groupby(["dataset", "dataset_params", "client", "n"], dropna=False, sort=False):
            groups = [group for _, group in data.groupby([*KEYS], dropna=False, sort=False)]
            base = next((g for g in groups if g["defense"].iloc[0] == self.params.baseline), None)
            errors = None if base is None else _errors(base)
            for group in groups:
                rows += _rows(group, errors)
        return Markdown().render(drop_unused(pd.DataFrame(rows), "training"))


def _name(row: pd.Series) -> str:
    """The corruption, from the parameters that were given, and a goal or finding, which choose the images."""
    params = rbmed.parse(component("corruption", row["attack_params"])).params
    goal = "" if row["goal"] == "untargeted" else row["goal"]
    return words(str(params.get("name", params.get("", "gaussian-noise"))), goal, row["finding"])


def _errors(group: pd.DataFrame) -> dict[str, pd.Series]:
    """By corruption, the balanced error at each severity and, under severity 0, on the clean images."""
    found = {}
    for name, own in group.groupby("corruption", sort=False):
        error = 1 - own.groupby("eps")["robust_balanced_accuracy"].mean()
        error[0.0] = 1 - own["clean_balanced_accuracy"].mean()
        found[str(name)] = error
    return found


def _rows(group: pd.DataFrame, base: dict[str, pd.Series] | None) -> list[dict[str, str]]:
    first, rows = group.iloc[0], []
    head = {
        "data set": dataset(first),
        "defense": component(first["defense"], first["defense_params"]),
        "strategy": words(component(first["strategy"], first["strategy_params"])),
        "training": words(first["training"]),
    }
    whole: dict[str, list[float]] = {"be": [], "ce": [], "rce": []}
    for name, error in _errors(group).items():
        at = error.drop(0.0)
        figures = {"be": float(at.mean()), "ce": float("nan"), "rce": float("nan")}
        other = None if base is None else base.get(name)
        if other is not None and set(at.index) <= set(other.index):
            theirs = other[at.index]
            figures["ce"] = _ratio(at.sum(), theirs.sum())
            figures["rce"] = _ratio((at - error[0.0]).sum(), (theirs - other[0.0]).sum())
        for key, value in figures.items():
            whole[key].append(value)
        some = "" if len(at) == SEVERITIES else f" ({len(at)} severities)"
        rows.append(head | {"corruption": name + some} | _shown(figures))
    mean = {key: float(pd.Series(values).mean(skipna=False)) for key, values in whole.items()}
    return [*rows, head | {"corruption": "mean"} | _shown(mean)]


def _ratio(one: float, other: float) -> float:
    return float(one) / float(other) if other > 0 else float("nan")


def _shown(figures: dict[str, float]) -> dict[str, str]:
    return {"BE": percent(figures["be"]), "CE": percent(figures["ce"]), "rCE": percent(figures["rce"])}
