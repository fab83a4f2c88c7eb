"""A strategy that returns no states is named before they are stored as weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robustbench_med.errors import HarnessError
from robustbench_med.interfaces.training import Federated
from robustbench_med.training.federated import check_federated

STATE: Any = {"weight": torch.ones(2)}
WRONG: Any = {"weight": torch.tensor([1, torch.nan])}


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (None, "a NoneType; valid: rbmed.Federated"),
        (STATE, "a dict; valid: rbmed.Federated"),
        (Federated({"weight": torch.ones(2).numpy()}), "weight of all clients as a ndarray; valid: a tensor"),  # type: ignore[dict-item]
        (Federated(WRONG), "weight of all clients with values that are not finite: it diverged"),
        (Federated(STATE, {"a": WRONG}), "weight of a with values that are not finite"),
        (Federated(STATE, {"c": STATE}), "a personal state of 'c'; clients: a, b"),
        (Federated(STATE, [STATE]), "personal states as a list; valid: a dict by client"),  # type: ignore[arg-type]
        (Federated(STATE, {"a": 1}), "as state of a a int; valid: a state_dict"),  # type: ignore[dict-item]
        (Federated(STATE, history=None), "history=None; valid: a list of dicts"),  # type: ignore[arg-type]
        (Federated(STATE, history=[{"loss": torch.ones(1)}]), "history=.*; valid: a list of dicts"),
    ],
)
def test_what_is_no_state_of_the_clients_is_refused(made: Any, told: str) -> None:
    with pytest.raises(HarnessError, match=f"^strategy 'mine' returned {told}"):
        check_federated(made, "strategy 'mine'", ["a", "b"])


def test_states_of_some_clients_are_as_they_should_be() -> None:
    check_federated(Federated(STATE, {"a": STATE}, [{"round": 1, "loss": 0.5}]), "strategy 'mine'", ["a", "b"])
