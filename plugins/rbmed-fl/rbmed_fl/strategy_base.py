"""The methods that define a federated strategy; each has the behaviour of federated averaging by default.

====================================  =================================================================
what stays local and is not sent      `StrategyBase.local_prefixes`
how a client trains                   `StrategyBase.fit`
what a client deploys                 `StrategyBase.personal`
how the server merges                 `StrategyBase.aggregator`, one of Flower's strategies
the aggregator's state                `StrategyBase.aggregator_state`, `StrategyBase.restore_aggregator`
which clients are suspected           `StrategyBase.suspects`
if it merges the clients' mean        `StrategyBase.averages`
if the server goes on from there      `StrategyBase.server_step`
which network is trained              `classifier`, to combine several copies of the model
====================================  =================================================================

`rbmed_fl.federation.FederatedStrategy` adds the training loop; strategies inherit from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rbmed_fl.local_training import LocalRound, train_epochs
from rbmed_fl.params import TrainParams
from rbmed_fl.states import State, strip_prefix
from robustbench_med import Learner, Params, Strategy

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy as Aggregator


class StrategyBase(Strategy):
    """Federated averaging of the whole model, method by method."""

    Params: ClassVar[type[Params]] = TrainParams
    #: The server needs nothing but the mean of the clients' updates, so that privacy and secure aggregation apply.
    averages: ClassVar[bool] = True
    #: The server takes a step of its own from what it merges, so that a client's average of weights is not deployed.
    server_step: ClassVar[bool] = False

    def local_prefixes(self, classifier: Learner) -> tuple[str, ...]:
        """Prefixes of the state names that stay with the client; all other state is sent and merged."""
        return ()

    def fit(self, classifier: Learner, local_round: LocalRound) -> float:
        """Train ``classifier`` in place for one client's local round; return the mean training loss.

        The classifier holds what the server sent and what stayed with the client. Anything else that the client needs
        in its next local round is stored in ``local_round.client_state``.
        """
        return train_epochs(classifier, local_round, self.params)

    def personal(self, shared: State, client_state: State) -> State:
        """The entries that replace those of ``shared`` in what the client deploys: by default what stayed local.

        Args:
            shared: the complete state: merged entries, and a client's own for those that stay local.
            client_state: the client's state after its last local round.
        """
        return strip_prefix("kept", client_state)

    def aggregator(self, parameters: frozenset[str], **common: Any) -> Aggregator:
        """Flower's strategy that merges the replies.

        Args:
            parameters: names of the state entries that are trained; the others are buffers, such as batch-norm
                statistics, to which steps of an optimizer do not apply.
            common: keyword arguments that every Flower strategy takes and must be given (numbers of clients, how
                metrics are collected).
        """
        from flwr.serverapp.strategy import FedAvg

        return FedAvg(**common)

    def aggregator_state(self, aggregator: Aggregator) -> State:
        """The aggregator's state that the next round needs besides the model, such as moments; checkpointed."""
        return {}

    def restore_aggregator(self, aggregator: Aggregator, state: State) -> None:
        """Restore the result of `aggregator_state`; ``state`` is empty before the first round."""

    def suspects(self, aggregator: Aggregator) -> list[int]:
        """Partition ids of clients whose replies of this round are suspected, where the aggregator can detect them."""
        return []
