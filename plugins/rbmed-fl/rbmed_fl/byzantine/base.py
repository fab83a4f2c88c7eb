"""The base of all Byzantine behaviours."""

from __future__ import annotations

from typing import Any, ClassVar

from rbmed_fl.local_training import LocalRound
from rbmed_fl.malicious import ByzantineParams
from rbmed_fl.states import State


class ByzantineBehaviour:
    """What Byzantine clients change; the base class changes nothing.

    Random numbers come from ``local_round.generator`` alone, so that a federation with Byzantine clients repeats
    exactly and the other clients' random numbers do not change.

    Args:
        params: an instance of ``Params``.
        total: number of clients in the federation.
        clients: partition ids of the Byzantine clients.
    """

    Params: ClassVar[type[ByzantineParams]] = ByzantineParams

    def __init__(self, params: Any, total: int, clients: frozenset[int]) -> None:
        self.params = params
        self.total = total
        self.clients = clients

    def check(self, classes: int, several: bool = False) -> None:
        """Raise `BadParameter` if the parameters do not fit data with this number of classes, or several findings."""

    def poison_data(self, local_round: LocalRound) -> LocalRound:
        """The local round with images or labels changed, before the client trains."""
        return local_round

    def poison_update(self, received: State, sent: State, local_round: LocalRound) -> State:
        """The parameters that are sent instead of ``sent``.

        Buffers are sent as trained: a running variance with its sign flipped would be negative, and the model's output
        NaN instead of wrong.

        Args:
            received: the parameters the server sent, on the CPU.
            sent: the same after training; empty where the strategy sends none.
            local_round: of the client.
        """
        return sent


def scaled(received: State, sent: State, factor: float) -> State:
    """``received + factor * (sent - received)``."""
    return {name: received[name] + factor * (value - received[name]) for name, value in sent.items()}
