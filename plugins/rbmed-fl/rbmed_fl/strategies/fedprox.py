"""Federated averaging with a proximal term (Li et al. 2020, arXiv 1812.06127)."""

from __future__ import annotations

from typing import Any

import flwr.serverapp.strategy
from flwr.serverapp.strategy import Strategy as Aggregator

from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.local_training import LocalRound, proximal_term, train_epochs
from rbmed_fl.params import TrainParams
from robustbench_med import Field, Learner


class FedProx(FederatedStrategy):
    """FedAvg whose clients minimise their loss + mu / 2 ||w - w_received||^2, over the parameters that are trained.

    The server sends mu with the model, as Flower does.
    """

    class Params(TrainParams):
        mu: float = Field(
            0.001,
            ge=0,
            allow_inf_nan=False,
            description="Weight of the proximal term; 0 is FedAvg. Adam's steps do not shrink with the gradient, so "
            "more than 0.01 slows clients down; with 'sgd', mu times lr must stay below 2.",
        )

    def aggregator(self, parameters: frozenset[str], **common: Any) -> Aggregator:
        """Flower's FedProx."""
        return flwr.serverapp.strategy.FedProx(proximal_mu=self.params.mu, **common)

    def fit(self, classifier: Learner, local_round: LocalRound) -> float:
        """See `FederatedStrategy`."""
        received = [weight.detach().clone() for weight in classifier.parameters()]
        penalty = proximal_term(classifier, received, local_round.config["proximal-mu"])
        return train_epochs(classifier, local_round, self.params, penalty)
