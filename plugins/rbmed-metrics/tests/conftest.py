"""A row of the table of records."""

from __future__ import annotations

from collections.abc import Callable

import pytest

ROW = {
    "dataset": "d",
    "partition": None,
    "unseen": "",
    "train_seed": 0,
    "n": 48,
    "seed": 0,
    "defense": "f",
    "defense_params": "detector=knn",
    "strategy": None,
    "strategy_params": "",
    "attack": "apgd",
    "attack_params": "steps=5",
    "norm": "linf",
    "eps": 0.01,
    "access": "oblivious",
    "role": "cell",
    "status": "ok",
    "clean_accuracy": 0.9,
    "robust_accuracy": 0.5,
    "clean_worst": 0.8,
    "robust_worst": 0.4,
    "detector_auroc": 0.9,
    "detector_tpr_at_1": 0.25,
    "detector_tpr_at_5": 0.5,
    "detector_fpr": 0.04,
    "detector_tpr": 0.45,
    "undetected_and_wrong": 0.125,
}


@pytest.fixture
def measured() -> Callable[..., dict[str, object]]:
    """Builds the row of a measured cell from what differs."""
    return lambda **more: ROW | more
