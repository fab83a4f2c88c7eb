"""FedEM: every client's images are drawn from a mixture of the same few distributions (Marfoq et al. 2021).

There is one global classifier per distribution, averaged over the clients as in FedAvg, and each client has its own
mixture weights, found by expectation-maximisation. Reference: "Federated multi-task learning under a mixture
of distributions", NeurIPS 2021, arXiv 2108.10252, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from rbmed_fl.adversarial_training import objective
from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.local_training import LocalRound, train_epochs
from rbmed_fl.mixture import Expected, Mixture
from rbmed_fl.params import TrainParams
from robustbench_med import Classifier, Field, Learner


class FedEM(FederatedStrategy):
    """FedAvg of several classifiers, mixed by weights that stay with the client.

    ``shared`` has the mean of the clients' weights, for a site never seen. The paper averages over plain SGD; with
    'adamw' a component also takes full steps at clients that hardly use it.
    """

    multi_label = "no"  # it mixes probabilities of classes

    class Params(TrainParams):
        components: int = Field(3, ge=1, description="Classifiers in the mixture; each costs a training.")

    def classifier(self, build: Callable[[], Classifier]) -> Classifier:
        """A mixture of fresh classifiers, different from each other, with equal weights."""
        return Mixture(build() for _ in range(self.params.components))

    def local_prefixes(self, classifier: Learner) -> tuple[str, ...]:
        """The weights of the mixture, and what its components declare personal."""
        return classifier.personal

    def fit(self, classifier: Learner, local_round: LocalRound) -> float:
        """One E-step on the clean images, then ``local_epochs`` of the M-step."""
        mixture = cast("Mixture", classifier)
        q = responsibilities(mixture, local_round, self.params)
        mixture.weights.copy_(q.mean(0))
        own = objective(self.params.adversarial, local_round.generator, local_round.number)

        def expected(mixture: Learner, x: Tensor, rows: Tensor) -> Tensor:
            return own(Expected(cast("Mixture", mixture), q[rows]), x, local_round.labels[rows])

        # Row numbers in place of labels: the loss of a batch needs both.
        rows = torch.arange(len(local_round.labels), device=local_round.labels.device)
        return train_epochs(mixture, replace(local_round, labels=rows), self.params, loss_of=expected)


@torch.no_grad()
def responsibilities(mixture: Mixture, local_round: LocalRound, params: TrainParams) -> Tensor:
    """The E-step: q_im proportional to pi_m exp(-loss_m(x_i, y_i)), shape (N, M), float32, rows sum to 1.

    In evaluation mode and on the original images, so that an image's q does not depend on its batch.
    """
    mixture.eval()
    images, labels = local_round.images, local_round.labels
    parts = zip(torch.split(images, params.batch_size), torch.split(labels, params.batch_size), strict=True)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=params.autocast):
        losses = torch.cat([mixture.losses(x, y) for x, y in parts])
    return (mixture.weights.log() - losses).softmax(1)
