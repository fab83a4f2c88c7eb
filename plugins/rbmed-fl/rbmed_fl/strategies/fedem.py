"""FedEM: every client's images are drawn from a mixture of the same few distributions (Marfoq et al. 2021).

There is one global classifier per distribution, averaged over the clients as in FedAvg, and each client has its own
mixture weights, found by expectation-maximisation. Reference: "Federated multi-task learning under a mixture
of distributions", NeurIPS 2021, arXiv 2108.10252, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rbmed_fl.adversarial_training import Adversarial, objective
from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.local_training import LocalRound, train_epochs
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


class Mixture(Classifier):
    """p(y | x) = sum_m pi_m softmax(h_m(x))_y; its logits are log p(y | x).

    Personal state of a component is personal here too, as are the weights. Terms that a component adds to its own loss
    are left out: the mixture needs one loss per image.

    Attributes:
        components: the classifiers h_m.
        weights: pi, shape (M,), in [0, 1], sum 1; a buffer, because it is not trained by gradients.
    """

    def __init__(self, components: Iterable[Classifier]) -> None:
        super().__init__()
        parts = list(components)
        self.components = nn.ModuleList(parts)
        self.weights: Tensor
        self.register_buffer("weights", torch.full((len(parts),), 1 / len(parts)))
        self.personal = ("weights", *_prefixed("personal", parts))
        self.heads = _prefixed("heads", parts)
        self.stochastic = any(part.stochastic for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (N, K)."""
        # In float32, even under autocast: differences of logarithms cancel in bfloat16.
        outputs = torch.stack([part(x).float().log_softmax(1) for part in self.components])
        return (self.weights.log()[:, None, None] + outputs).logsumexp(0)

    def embed(self, x: Tensor) -> Tensor:
        """Concatenated features of the components, shape (N, sum of their F).

        Raises:
            NotDefined: a component has none.
        """
        return torch.cat([cast("Classifier", part).embed(x) for part in self.components], 1)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of each component on each image, shape (N, M)."""
        losses = [F.cross_entropy(part(x).float(), y, reduction="none") for part in self.components]
        return torch.stack(losses, 1)


class Expected(Classifier):
    """A mixture as the M-step of EM sees it: the same output; the loss is the components' expected loss under q.

    Args:
        mixture: shared, not copied.
        q: probability that an image of the batch was drawn from a component, (N, M), rows sum to 1.
    """

    def __init__(self, mixture: Mixture, q: Tensor) -> None:
        super().__init__()
        self.mixture, self.q = mixture, q

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the mixture, shape (N, K)."""
        logits: Tensor = self.mixture(x)
        return logits

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean over the images of sum_m q_m CE(h_m(x), y)."""
        return (self.q * self.mixture.losses(x, y)).sum(1).mean()


def _prefixed(attribute: str, parts: list[Classifier]) -> tuple[str, ...]:
    return tuple(f"components.{m}.{prefix}" for m, part in enumerate(parts) for prefix in getattr(part, attribute))


class PFedDef(FedEM):
    """FedEM whose clients train adversarially against their own mixtures.

    Reference: Kim, Singh, Madaan & Joe-Wong, "Characterizing internal evasion attacks in federated learning", AISTATS
    2023, arXiv 2209.08412. Responsibilities come from clean images, the M-step from attacked ones. Three things are
    simpler here:

    - Images are attacked again at every step, where the authors renew a stored set every few rounds.
    - The attack is against the mixture of outputs, which is deployed; the authors' code attacks one classifier whose
      parameters are the mixture of the components'.
    - Every client attacks the same share of its images (``pgd:clean=0.5`` leaves half alone). The paper's robustness
      propagation, in which clients with more computing power attack more images, is left out.
    """

    class Params(FedEM.Params):
        adversarial: Adversarial = Field(
            "pgd", description="Adversarial training by every client: pgd:KEY=VALUE,... or trades:KEY=VALUE,..."
        )
