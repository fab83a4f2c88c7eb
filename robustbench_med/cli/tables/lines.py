"""Lines below the table of records: folds pooled, other ways to count answers, figures of findings and grades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from robustbench_med.cli.tables.records import contrast, name_of
from robustbench_med.interfaces.rate import percent
from robustbench_med.leaderboard.ranking.folds import Pools, pooled
from robustbench_med.leaderboard.ranking.pool import Pooled
from robustbench_med.leaderboard.sources.consistency import outcomes_of
from robustbench_med.records.record import Record
from robustbench_med.records.scorings import MEAN, found
from robustbench_med.records.summary import images_and_patients, share, threat_of

#: Figures of each task by their names in records, without the side, and how they are shown.
FINDINGS = {"macro_auc": "macro AUC", "macro_f1": "macro F1", "macro_balanced_accuracy": "macro balanced accuracy"}
GRADES = {"mean_absolute_error": "mean absolute error", "quadratic_kappa": "quadratic kappa"}
OFF = "off_by_more_than_one"


def folds(records: Sequence[Record], samples: Path) -> Iterator[str]:
    """One line for each system and attack: its figures over all folds, or what is missing.

    ``samples`` is the folder of per-image results.
    """
    folds = [record for record in records if record.dataset.fold is not None and record.status == "ok"]
    if not folds:
        return
    found = [each for each in pooled(Pools(folds, outcomes_of(folds, samples))).records if isinstance(each, Pooled)]
    for record, varies in zip(found, contrast(found), strict=True):
        figures = f"clean % {share(record, 'clean_accuracy')}, robust % {share(record, 'robust_accuracy')}"
        told = "; ".join(record.gaps) or f"{figures}, n {images_and_patients(record.n, record.patients)}"
        # What else tells two lines apart; the rest is in the name.
        seed = f"seed {varies['seed']}" if "seed" in varies else ""
        limit = f"limit {record.limit}" if len({each.limit for each in found}) > 1 and record.limit else ""
        data = varies.get("data", "")
        of = ", ".join(filter(None, [name_of(record), data, threat_of(record), varies.get("client"), seed, limit]))
        yield f"{record.folds} folds pooled: {of}: {told}"


def scorings(records: Sequence[Record]) -> Iterator[str]:
    """One line for each measured record that has more than the mean: clean and robust accuracy in percent."""
    for record in records:
        others = list(found(record)) if record.status == "ok" else []
        if others:
            mean = (MEAN, record.metrics.get(MEAN.clean), record.metrics.get(MEAN.robust))
            told = [
                f"{scoring.name} {'/'.join(map(percent, [clean, robust] if scoring.clean else [robust]))}"
                for scoring, clean, robust in [mean, *others]
            ]
            yield f"{name_of(record)}: clean/robust % as {', '.join(told)}"


def tasks(records: Sequence[Record]) -> Iterator[str]:
    """A line for each measured record of such a task: figures on clean images -> under attack."""
    for record in records:
        if record.status != "ok":
            continue
        if "clean_macro_auc" in record.metrics:
            yield f"{name_of(record)}: {_figures(record, FINDINGS)}; an image counts as right if every finding is"
        if "clean_quadratic_kappa" in record.metrics:
            off = " -> ".join(percent(record.metrics.get(f"{side}_{OFF}")) for side in ("clean", "robust"))
            yield f"{name_of(record)}: {_figures(record, GRADES)}, off by more than one grade {off} %"


def _figures(record: Record, figures: dict[str, str]) -> str:
    sides = ("clean", "robust")
    return ", ".join(
        f"{title} {' -> '.join(_decimals(record.metrics.get(f'{side}_{name}')) for side in sides)}"
        for name, title in figures.items()
    )


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
