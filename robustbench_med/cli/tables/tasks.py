"""Lines on tasks in which an answer is more than right or wrong: several findings, and grades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustbench_med.cli.tables.records import name_of
from robustbench_med.interfaces.rate import percent
from robustbench_med.records.record import Record

#: Figures of each task by their names in records, without the side, and how they are shown.
FINDINGS = {"macro_auc": "macro AUC", "macro_f1": "macro F1", "macro_balanced_accuracy": "macro balanced accuracy"}
GRADES = {"mean_absolute_error": "mean absolute error", "quadratic_kappa": "quadratic kappa"}
OFF = "off_by_more_than_one"


def lines(records: Sequence[Record]) -> Iterator[str]:
    """A line for each measured record of such a task: figures on clean images -> under attack."""
    for record in records:
        if record.status != "ok":
            continue
        if "clean_macro_auc" in record.metrics:
            yield f"{name_of(record)}: {_pairs(record, FINDINGS)}; an image counts as right if every finding is"
        if "clean_quadratic_kappa" in record.metrics:
            off = " -> ".join(percent(record.metrics.get(f"{side}_{OFF}")) for side in ("clean", "robust"))
            yield f"{name_of(record)}: {_pairs(record, GRADES)}, off by more than one grade {off} %"


def _pairs(record: Record, figures: dict[str, str]) -> str:
    sides = ("clean", "robust")
    return ", ".join(
        f"{title} {' -> '.join(_number(record.metrics.get(f'{side}_{name}')) for side in sides)}"
        for name, title in figures.items()
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
