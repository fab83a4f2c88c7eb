"""What a strategy of a plugin returns, checked before it is stored as weights."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from robustbench_med.errors import HarnessError
from robustbench_med.interfaces.training import Federated


def check_federated(made: Any, who: str, clients: Collection[str]) -> None:
    """Raise `HarnessError` where ``who`` did not return states of the ``clients``, or nothing but states.

    Weights that are not finite would be stored, and each answer of theirs would count as wrong.
    """
    if not isinstance(made, Federated):
        raise HarnessError(f"{who} returned a {type(made).__name__}; valid: rbmed.Federated")
    personal: Any = made.personal
    if not isinstance(personal, Mapping):
        raise HarnessError(f"{who} returned personal states as a {type(personal).__name__}; valid: a dict by client")
    if unknown := [name for name in personal if name not in clients]:
        known = ", ".join(sorted(clients))[:200]
        raise HarnessError(f"{who} returned a personal state of {unknown[0]!r:.80}; clients: {known}")
    states: Any = {"all clients": made.shared, **personal}
    for whose, state in states.items():
        if not isinstance(state, Mapping):
            raise HarnessError(f"{who} returned as state of {whose} a {type(state).__name__}; valid: a state_dict")
        for name, value in state.items():
            if not isinstance(value, Tensor):
                raise HarnessError(f"{who} returned {name} of {whose} as a {type(value).__name__}; valid: a tensor")
            if value.is_floating_point() and not value.isfinite().all():
                raise HarnessError(f"{who} returned {name} of {whose} with values that are not finite: it diverged")
    history: Any = made.history
    good = isinstance(history, list) and all(isinstance(row, Mapping) for row in history)
    try:
        json.dumps(history)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise HarnessError(f"{who} returned history={history!r:.80}; valid: a list of dicts of numbers and texts")
