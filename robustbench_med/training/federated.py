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
    if not isinstance(made.personal, Mapping) or (unknown := sorted(set(made.personal) - set(clients))):
        told = repr(unknown[0]) if isinstance(made.personal, Mapping) else type(made.personal).__name__
        raise HarnessError(
            f"{who} returned a personal state of {told:.80}; clients: {', '.join(sorted(clients))[:200]}"
        )
    for whose, state in {"shared": made.shared, **made.personal}.items():
        if not isinstance(state, Mapping):
            raise HarnessError(f"{who} returned as state of {whose} a {type(state).__name__}; valid: a state_dict")
        for name, value in state.items():
            if not isinstance(value, Tensor):
                raise HarnessError(f"{who} returned {name} of {whose} as a {type(value).__name__}; valid: a tensor")
            if value.is_floating_point() and not value.isfinite().all():
                raise HarnessError(f"{who} returned {name} of {whose} with values that are not finite: it diverged")
    rows = isinstance(made.history, list) and all(isinstance(row, Mapping) for row in made.history)
    try:
        json.dumps(made.history)
    except (TypeError, ValueError):
        rows = False
    if not rows:
        raise HarnessError(f"{who} returned history={made.history!r:.80}; valid: a list of dicts of numbers and texts")
