"""Ditto: a personal model with a proximal term to the global one (Li et al. 2021, arXiv 2012.04221).

Sent and averaged: the global model w, bit for bit that of FedAvg. Stays: the client's own model v, complete, which is
what it deploys. In each local round v is trained on the loss plus lam / 2 * ||v - w||^2, with w as the server sent it
and the distance over trainable parameters; in the first local round v starts from w. v has its own batch-norm
statistics.

The two trainings of a local round are independent and see the same batches, augmentation, dropout and learning rates:
those of a local round of FedAvg. With lam=0, v is therefore bit for bit the model of strategy ``local``; the larger
lam, the nearer v is to the global model of the round before (plain gradient steps need lam * lr < 2).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.local_training import LocalRound, proximal_term, train_epochs
from rbmed_fl.params import TrainParams
from rbmed_fl.states import State, add_prefix, strip_prefix, to_cpu
from robustbench_med import Field, Learner


class Ditto(FederatedStrategy):
    """FedAvg, and a personal model for each client."""

    class Params(TrainParams):
        lam: float = Field(
            1.0,
            ge=0,
            allow_inf_nan=False,
            description="Weight of the proximal term: 0 is local training, large is FedAvg.",
        )

    def fit(self, classifier: Learner, local_round: LocalRound) -> float:
        """Train the personal and the global model; return the mean loss, with the penalty, of the personal one."""
        own = copy.deepcopy(classifier)
        own.load_state_dict(own.state_dict() | strip_prefix("own", local_round.client_state))
        penalty = proximal_term(own, list(classifier.parameters()), self.params.lam)
        # First, while the classifier is still as the server sent it; the second training uses the same random numbers.
        devices = [local_round.images.device] if local_round.images.is_cuda else []
        with torch.random.fork_rng(devices):
            again = replace(local_round, generator=local_round.generator.clone_state())
            loss = train_epochs(own, again, self.params, penalty, average="own-ema")
        train_epochs(classifier, local_round, self.params)
        local_round.client_state.update(add_prefix("own", to_cpu(own.state_dict())))
        return loss

    def personal(self, shared: State, client_state: State) -> State:
        """The client's own model, complete."""
        return strip_prefix("own", client_state)
