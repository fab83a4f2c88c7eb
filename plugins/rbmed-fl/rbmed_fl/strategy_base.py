"""What a strategy has to say: a few small questions, each with the answer of federated averaging.

====================================  ===================================================================
what stays local, and is not sent     `Answers.keeps`
how a client trains                   `Answers.fit`
what a client deploys in the end      `Answers.personal`
how the server merges                 `Answers.server`, one of Flower's strategies
what the server must not forget       `Answers.remember`, `Answers.restore`
which clients look wrong              `Answers.suspects`
what network is trained               `classifier`, to combine several copies of the model
====================================  ===================================================================

`rbmed_fl.federation.Federation` is the federation that follows from the answers; strategies are written against it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import flwr.serverapp.strategy

from rbmed_fl.local_training import Turn, train_epochs
from rbmed_fl.params import TrainParams
from rbmed_fl.states import State, under
from robustbench_med import Learner, Params, Strategy

Merger = flwr.serverapp.strategy.Strategy


class Answers(Strategy):
    """The questions, answered as federated averaging of the whole model does."""

    Params: ClassVar[type[Params]] = TrainParams

    def keeps(self, classifier: Learner) -> tuple[str, ...]:
        """Prefixes of the state names that stay with the client; all other state is sent and merged."""
        return ()

    def fit(self, classifier: Learner, turn: Turn) -> float:
        """Train ``classifier`` in place in one client's turn; return the mean training loss.

        The classifier holds what the server sent and what the client kept. ``turn.memory`` is for anything else that
        the client is to know in its next turn.
        """
        return train_epochs(classifier, turn, self.params)

    def personal(self, shared: State, memory: State) -> State:
        """The entries that replace those of ``shared`` in what the client deploys: by default what it kept.

        Args:
            shared: the complete state: merged entries, and a client's own for those that it keeps.
            memory: what the client remembers after its last turn.
        """
        return under("kept", memory)

    def server(self, parameters: frozenset[str], **common: Any) -> Merger:
        """Flower's strategy that merges the replies.

        Args:
            parameters: names of the state entries that are trained; the others are buffers, such as batch-norm
                statistics, for which steps of an optimizer have no meaning.
            common: keyword arguments that every Flower strategy takes and must be given (numbers of clients, how
                metrics are collected).
        """
        return flwr.serverapp.strategy.FedAvg(**common)

    def remember(self, merger: Merger) -> State:
        """What ``merger`` has to know in the next round besides the model, such as moments; kept in checkpoints."""
        return {}

    def restore(self, merger: Merger, state: State) -> None:
        """Give ``merger`` back what `remember` told; ``state`` is empty before the first round."""

    def suspects(self, merger: Merger) -> list[int]:
        """Partition ids of clients whose replies of this round looked wrong, where the merging can tell."""
        return []
