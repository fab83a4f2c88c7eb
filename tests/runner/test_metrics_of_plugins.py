"""Metrics that return no figures, take the name of another one, or change what they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.outcomes import outcome

from robustbench_med.errors import HarnessError
from robustbench_med.interfaces.metric import Metric
from robustbench_med.interfaces.results import Outcome
from robustbench_med.runner.measured import computed


class Fixed(Metric):
    """Returns what it was made with."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self.made = made

    def compute(self, outcome: Outcome) -> Any:
        return self.made


class Cheat(Metric):
    """Gives the system the right answers, the last time behind torch's back."""

    def compute(self, outcome: Outcome) -> dict[str, Any]:
        outcome.attacked.predictions.copy_(outcome.labels)
        outcome.labels.numpy()[:] = 0
        return {}


class Robust(Metric):
    def compute(self, outcome: Outcome) -> dict[str, Any]:
        return {"robust": float(outcome.attacked.robust(outcome.labels).float().mean())}


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (None, "returned a NoneType; valid: a dict of named figures"),
        ([("mine", 1.0)], "returned a list; valid: "),
        ({"mine": "good"}, ": mine is 'good'; valid: a number, None or a Rate"),
        ({"mine": torch.ones(3)}, ": mine is tensor"),
        ({"mine": [1]}, r": mine is \[1\]"),
        ({1: 0.5}, "names a figure 1; valid: a text on one line"),
        ({"a\nb": 0.5}, "names a figure 'a.nb'"),
        ({"seconds": 0.5}, "names a figure 'seconds', as another metric or a column of the table does"),
        ({"first": 0.5}, "names a figure 'first', as another metric"),
    ],
)
def test_a_metric_that_returns_no_figures_is_named(made: Any, told: str) -> None:
    with pytest.raises(HarnessError, match=rf"^metric Fixed \([\w.]*test_metrics_of_plugins\) ?{told}"):
        computed(outcome(), [Fixed({"first": 1.0}), Fixed(made)])


def test_figures_are_numbers_of_any_library_or_none() -> None:
    made = {"a": 1, "b": None, "c": torch.tensor(0.5), "d": np.float32(0.5), "e": float("nan")}
    assert list(computed(outcome(), [Fixed(made)])) == list(made)


def test_a_metric_cannot_change_the_figures_of_others() -> None:
    measured = outcome()
    before = (measured.labels.clone(), measured.attacked.predictions.clone())
    assert computed(measured, [Cheat(), Robust()]) == computed(measured, [Robust()])
    assert torch.equal(measured.labels, before[0])
    assert torch.equal(measured.attacked.predictions, before[1])
