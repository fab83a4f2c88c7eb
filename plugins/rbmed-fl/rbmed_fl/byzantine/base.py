"""What every misbehaviour has in common."""

from __future__ import annotations

from typing import Any, ClassVar

import pydantic

from rbmed_fl.local_training import Turn
from rbmed_fl.option import Names
from rbmed_fl.states import State
from robustbench_med import Field, Params


class Who(Params):
    """Which clients misbehave."""

    clients: int = Field(1, ge=1, description="How many: the last ones, in the order of their names.")
    names: Names = Field((), description="Their names, instead of their number.")

    @pydantic.model_validator(mode="after")
    def _one_of_them(self) -> Who:
        if {"clients", "names"} <= self.model_fields_set:
            raise ValueError("give either clients or names, not both")
        return self


class Malice:
    """What some clients do to the others. As it is: nobody misbehaves.

    Random numbers come from ``turn.generator`` alone, so that a federation with malicious clients repeats exactly, and
    the turns of all other clients are what they would be without them.

    Args:
        params: an instance of ``Params``.
        total: number of clients in the federation.
        clients: partition ids of those that misbehave.
    """

    Params: ClassVar[type[Who]] = Who

    def __init__(self, params: Any, total: int, clients: frozenset[int]) -> None:
        self.params = params
        self.total = total
        self.clients = clients

    def check(self, classes: int) -> None:
        """Raise `BadParameter` where the parameters do not fit data of so many classes."""

    def poison(self, turn: Turn) -> Turn:
        """The turn with images or labels changed, before the client trains."""
        return turn

    def distort(self, received: State, sent: State, turn: Turn) -> State:
        """The parameters that are sent instead of ``sent``.

        Buffers are not asked for and are sent as trained: a running variance turned around would be negative, and the
        model not a number instead of a wrong one.

        Args:
            received: the parameters the server sent, on the CPU.
            sent: the same after training; empty where the strategy sends none.
            turn: whose.
        """
        return sent


def scaled(received: State, sent: State, factor: float) -> State:
    """``received + factor * (sent - received)``."""
    return {name: received[name] + factor * (value - received[name]) for name, value in sent.items()}
