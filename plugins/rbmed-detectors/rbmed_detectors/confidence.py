"""Scores computed from the classifier's logits. Nothing is learned."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed


class Energy(rbmed.Detector):
    """Free energy -T logsumexp(logits / T) (Liu et al. 2020, arXiv:2010.03759), unbounded.

    Higher means less similar to the training images. The paper's fine-tuning on outliers is left out. Deterministic;
    differentiable.
    """

    class Params(rbmed.Params):
        temperature: float = Field(1.0, gt=0, description="T, divides the logits.")

    multi_label = "named"
    stochastic = False

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The energy of each image, float32 (N,)."""
        t: float = self.params.temperature
        logits: Tensor = system.classifier(x)
        return -t * (logits.float() / t).logsumexp(1)


class MaxSoftmax(rbmed.Detector):
    """1 - largest softmax probability (Hendrycks & Gimpel 2017, arXiv:1610.02136), from 0 to 1 - 1 / K.

    Deterministic; differentiable.
    """

    multi_label = "named"
    stochastic = False

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """One minus the confidence of each image, float32 (N,)."""
        # The sum over the other classes: next to 1, float32 does not resolve 1 - p of confident predictions, which most
        # clean images have.
        logits: Tensor = system.classifier(x)
        ordered = logits.float().sort(1, descending=True).values
        return (ordered[:, 1:].logsumexp(1) - ordered[:, 0]).sigmoid()
