"""Federated averaging with a proximal term (Li et al. 2020, arXiv 1812.06127)."""

from __future__ import annotations

from typing import Any

import flwr.serverapp.strategy

from rbmed_fl.federation import Federation
from rbmed_fl.local_training import Turn, tether, train_epochs
from rbmed_fl.params import TrainParams
from rbmed_fl.strategy_base import Merger
from robustbench_med import Field, Learner


class FedProx(Federation):
    """FedAvg whose clients minimise their loss + mu / 2 ||w - w_received||^2, over the parameters that are trained.

    The server sends mu with the model, as Flower does.
    """

    class Params(TrainParams):
        """Parameters of `FedProx`."""

        mu: float = Field(
            0.001,
            ge=0,
            allow_inf_nan=False,
            description="Weight of the proximal term; 0 is FedAvg. Adam's steps do not shrink with the gradient, so "
            "more than 0.01 holds clients back; with 'sgd', mu times lr must stay below 2.",
        )

    def server(self, parameters: frozenset[str], **common: Any) -> Merger:
        """Flower's FedProx."""
        return flwr.serverapp.strategy.FedProx(proximal_mu=self.params.mu, **common)

    def fit(self, classifier: Learner, turn: Turn) -> float:
        """See `Federation`."""
        received = [weight.detach().clone() for weight in classifier.parameters()]
        return train_epochs(classifier, turn, self.params, tether(classifier, received, turn.config["proximal-mu"]))
