"""Several classifiers mixed by weights that belong to one client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med import Classifier


class Mixture(Classifier):
    """p(y | x) = sum_m pi_m softmax(h_m(x))_y; its logits are log p(y | x).

    What a component declares personal is personal here too, besides the weights. Terms that a component adds to its
    own loss are left out: the mixture needs one loss per image.

    Attributes:
        components: the classifiers h_m.
        weights: pi, shape (M,), in [0, 1], sum 1; a buffer, since it is set and not descended on.
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
        # In float32, whatever autocast makes of the components: differences of logarithms cancel in bfloat16.
        answers = torch.stack([part(x).float().log_softmax(1) for part in self.components])
        return (self.weights.log()[:, None, None] + answers).logsumexp(0)

    def embed(self, x: Tensor) -> Tensor:
        """Features of the components side by side, shape (N, sum of their F).

        Raises:
            NotDefined: a component offers none.
        """
        return torch.cat([cast("Classifier", part).embed(x) for part in self.components], 1)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of each component on each image, shape (N, M)."""
        answers = [F.cross_entropy(part(x).float(), y, reduction="none") for part in self.components]
        return torch.stack(answers, 1)


class Expected(Classifier):
    """A mixture as the M-step of EM sees it: it answers alike, and its loss is the components', expected under q.

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
