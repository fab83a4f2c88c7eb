"""Checks of a metric, and of a report."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from robustbench_med.interfaces.metric import Metric, Report
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import Rate
from robustbench_med.interfaces.results import Outcome
from robustbench_med.testing.checking import Checks, Subject
from robustbench_med.testing.side_effects import Unmodified
from robustbench_med.testing.toys import toy_outcome

metrics = Checks()
reports = Checks()


def _outcomes() -> Iterator[Outcome]:
    yield toy_outcome()
    yield toy_outcome(draws=1)
    yield toy_outcome(detector=False)


@metrics("figures", "It gives named figures: numbers, None or `Rate`")
def figures(subject: Subject) -> Iterator[str]:
    """With a detector, with one noise draw, and without a detector."""
    metric: Metric = subject.build()
    for outcome in _outcomes():
        found = metric.compute(outcome)
        wrong = [name for name, value in found.items() if not isinstance(value, float | int | Rate | None)]
        if wrong:
            yield f"figures must be numbers, None or Rate: {', '.join(wrong)}"
        if wild := [name for name, value in found.items() if isinstance(value, float) and not math.isfinite(value)]:
            yield f"figures that are not finite must be None: {', '.join(wild)}"
        if odd := [name for name in found if not name.isidentifier()]:
            yield f"names of figures become columns; write them like variables: {', '.join(map(repr, odd))}"


@metrics("repeatable", "The same outcome gives the same figures, and is not modified")
def repeatable(subject: Subject) -> Iterator[str]:
    """Other metrics use it too."""
    metric: Metric = subject.build()
    outcome = toy_outcome()
    watched = Unmodified(**dict(_tensors(outcome, "outcome")))
    if metric.compute(outcome) != metric.compute(copy.deepcopy(outcome)):
        yield "gives other figures for the same outcome"
    yield from watched.faults()


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name), f"{name}.{field.name}")


def _table() -> pd.DataFrame:
    """Three rows as `robustbench_med.records.table.to_frame` makes them: measured, without detector, failed."""
    whole = {
        "dataset": "toy",
        "synthetic": True,
        "defense": "guard",
        "defense_params": "",
        "strategy": "fedavg",
        "strategy_params": "",
        "train_seed": 0,
        "partition": None,
        "unseen": "",
        "attack": "apgd",
        "attack_params": "steps=3",
        "norm": "linf",
        "eps": 4 / 255,
        "access": "oblivious",
        "role": "claim",
        "status": "ok",
        "n": 8,
        "seed": 0,
        "reason": None,
        "worst_client": "north",
        "seconds": 1.5,
        "cell_id": "c1",
        "clean_accuracy": 1.0,
        "robust_accuracy": 0.5,
        "robust_accuracy_low": 0.2,
        "robust_accuracy_high": 0.8,
        "worst_client_robust_accuracy": 0.25,
        "detector_auroc": 0.9,
        "detector_fpr": 0.05,
        "detector_tpr": 0.8,
    }
    blind = {key: None if "detector" in key else value for key, value in whole.items()}
    failed = {key: value for key, value in blind.items() if "accuracy" not in key and "detector" not in key}
    failed |= {"defense": "guard", "status": "failed", "reason": "no memory", "cell_id": "c3", "n": 0}
    return pd.DataFrame([whole, {**blind, "defense": "bare", "cell_id": "c2"}, failed])


@reports("renders", "It renders tables of several cells, of one, and of failed ones")
def renders(subject: Subject) -> Iterator[str]:
    """Not empty, as text."""
    report: Report = subject.build()
    for table in (_table(), _table()[:1], _table()[2:]):
        text = report.render(table.reset_index(drop=True))
        if not str(text or "").strip() or type(text) is not str:
            yield f"of {plural(len(table), 'row')} it renders {text!r:.60}"


@reports("repeatable", "The same table gives the same text, and is not modified")
def same_text(subject: Subject) -> Iterator[str]:
    """Other reports use it too."""
    report: Report = subject.build()
    table = _table()
    before = table.to_json()
    if report.render(table) != report.render(_table()):
        yield "gives another text for the same table"
    if table.to_json() != before:
        yield "modifies the table"
