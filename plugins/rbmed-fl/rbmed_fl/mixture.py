"""Several classifiers mixed by one client's weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med import Classifier


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
