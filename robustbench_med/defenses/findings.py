"""Classifiers of several findings: the thresholds of their answers, and the answer to a question about one."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.training import Classifier

#: Images of one pass.
BATCH = 64


class Around(Classifier):
    """A classifier with other logits than those of the one inside, and the same features."""

    def __init__(self, inner: Classifier) -> None:
        super().__init__()
        self.inner, self.stochastic, self.notes = inner, inner.stochastic, inner.notes

    def embed(self, x: Tensor) -> Tensor:
        """The features of the classifier inside."""
        return self.inner.embed(x)


class OneFinding(Around):
    """The answer about one of several findings, as of two classes: logits 0 and that of the finding.

    Their softmax is the sigmoid of the finding's logit.

    Args:
        inner: a classifier with a logit for each finding.
        number: which finding.
    """

    def __init__(self, inner: Classifier, number: int) -> None:
        super().__init__(inner)
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, 2)."""
        logit = self.inner(x)[:, self.number]
        return torch.stack([torch.zeros_like(logit), logit], 1)


class Shifted(Around):
    """A classifier of several findings whose thresholds are moved to 0.

    Args:
        inner: the classifier.
        thresholds: logits (K,) above which a finding is answered to be there.
    """

    def __init__(self, inner: Classifier, thresholds: Tensor) -> None:
        super().__init__(inner)
        self.thresholds: Tensor
        self.register_buffer("thresholds", thresholds, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, K)."""
        logits: Tensor = self.inner(x)
        return logits - self.thresholds


@torch.inference_mode()
def calibrated_thresholds(classifier: Classifier, split: Split, device: torch.device) -> Tensor:
    """For each finding, the logit that best tells images with it from those without, (K,).

    It has the largest sum of sensitivity and specificity on these clean images (Youden 1950), halfway between two
    scores; of equal ones, that nearest to 0, which is a probability of 0.5. It is 0 for a finding that none of the
    images has, or all of them.
    """
    scores = torch.cat([classifier(part.to(device)).double().cpu() for part in torch.split(split.images, BATCH)])
    return torch.tensor([_threshold(*pair) for pair in zip(scores.T, split.labels.T, strict=True)], device=device)


def _threshold(scores: Tensor, held: Tensor) -> float:
    present, absent = scores[held != 0], scores[held == 0]
    if not len(present) or not len(absent):
        return 0.0
    levels = torch.unique(scores)
    tried = torch.cat([scores.new_zeros(1), (levels[1:] + levels[:-1]) / 2])
    gain = (present[:, None] > tried).double().mean(0) + (absent[:, None] <= tried).double().mean(0)
    best = tried[gain >= gain.max() - 1e-9]
    return float(best[best.abs().argmin()])
