"""The checks of every kind, used by `rbmed check`, the contract classes and parametrised tests."""

from __future__ import annotations

from robustbench_med.testing.checking import Check
from robustbench_med.testing.checks import (
    attacks,
    common,
    datasets,
    defenses,
    detectors,
    figures,
    models,
    purifiers,
    strategies,
)

#: By kind, in the order in which they are shown.
CHECKS: dict[str, tuple[Check, ...]] = {
    kind: (*common.check.all, *own.all)
    for kind, own in {
        "attack": attacks.check,
        "detector": detectors.check,
        "purifier": purifiers.check,
        "strategy": strategies.check,
        "dataset": datasets.check,
        "model": models.check,
        "defense": defenses.check,
        "metric": figures.metrics,
        "report": figures.reports,
    }.items()
}


def checks_of(kind: str) -> tuple[Check, ...]:
    """The checks of one kind."""
    return CHECKS[kind]
