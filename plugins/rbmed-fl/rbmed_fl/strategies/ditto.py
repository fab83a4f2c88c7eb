"""Ditto: a personal model beside the global one, tied to it (Li et al. 2021, arXiv 2012.04221).

Sent and averaged: the global model w, bit for bit that of FedAvg. Stays: the client's own model v, complete, which is
what it deploys. In each turn v is trained on the loss plus lam / 2 * ||v - w||^2, with w as the server sent it and the
distance over trainable parameters; in the first turn v starts from w. v has batch-norm statistics of its own.

The two trainings of a turn are independent and see the same batches, augmentation, dropout and learning rates: those
of a turn of FedAvg. With lam=0, v is therefore bit for bit the model of strategy ``local``; the larger lam, the nearer
v is to the global model of the round before (plain gradient steps need lam * lr < 2).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from rbmed_fl.federation import Federation
from rbmed_fl.local_training import Turn, tether, train_epochs
from rbmed_fl.params import TrainParams
from rbmed_fl.states import State, put, to_cpu, under
from robustbench_med import Field, Learner


class Ditto(Federation):
    """FedAvg, and a model of its own for each client."""

    class Params(TrainParams):
        """Parameters of `Ditto`."""

        lam: float = Field(
            1.0,
            ge=0,
            allow_inf_nan=False,
            description="Pull of the global model on the personal one: 0 is local training, large is FedAvg.",
        )

    def fit(self, classifier: Learner, turn: Turn) -> float:
        """Train the personal and the global model; return the mean loss, with the penalty, of the personal one."""
        own = copy.deepcopy(classifier)
        own.load_state_dict(own.state_dict() | under("own", turn.memory))
        pull = tether(own, list(classifier.parameters()), self.params.lam)
        # First, while the classifier still is what the server sent; the random numbers then come again.
        devices = [turn.images.device] if turn.images.is_cuda else []
        with torch.random.fork_rng(devices):
            again = replace(turn, generator=turn.generator.clone_state())
            loss = train_epochs(own, again, self.params, pull)
        train_epochs(classifier, turn, self.params)
        turn.memory.update(put("own", to_cpu(own.state_dict())))
        return loss

    def personal(self, shared: State, memory: State) -> State:
        """The client's own model, complete."""
        return under("own", memory)
