"""How an attack keeps within its budget: what it plans, and what it says when nothing can be done."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med import Budget, TargetModel
from robustbench_med.errors import BudgetExceeded


def fit(runs: int, steps: int, limit: int, extra: int = 0) -> tuple[int, int]:
    """How many runs of how many steps, ``steps + extra`` passes each, stay within ``limit`` passes.

    Runs are dropped before steps are; at least one run is left, if need be with less than one step.
    """
    runs = max(1, min(runs, limit // max(steps + extra, 1)))
    return runs, min(steps, limit // runs - extra)


def too_small(budget: Budget, least: str = "one gradient step") -> BudgetExceeded:
    """The error that an attack raises if the budget does not allow ``least``."""
    return BudgetExceeded(f"the budget of {budget} does not allow {least} per image")


def look(model: TargetModel, x: Tensor, budget: Budget | None = None) -> Tensor:
    """The logits (N, K) of the clean images, which cost one query.

    Raises:
        BudgetExceeded: a ``budget`` is given and does not allow it.
    """
    if budget is not None and budget.queries is not None and budget.queries < model.draws:
        raise too_small(budget, "one query")
    with torch.no_grad():
        logits: Tensor = model(x)
        return logits
