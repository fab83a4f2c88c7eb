"""Small, deterministic images, classifiers, outcomes and interruptions to test components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from robustbench_med.interfaces.attack import TargetModel
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.defense import Purifier
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import Outcome, Predictions, RungResult
from robustbench_med.interfaces.training import Classifier
from robustbench_med.progress import Grid, Silent


class ToyClassifier(Classifier):
    """A fixed random linear layer on the pixels, the same for the same arguments.

    Args:
        num_classes: K.
        channels: C.
        size: side of the images.
    """

    def __init__(self, num_classes: int = 2, channels: int = 1, size: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.weight = nn.Parameter(torch.randn(num_classes, channels * size * size, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, K)."""
        return (x - 0.5).flatten(1) @ self.weight.T

    def embed(self, x: Tensor) -> Tensor:
        """Mean intensities of a coarse grid as features, (N, C * 16)."""
        return nn.functional.adaptive_avg_pool2d(x - 0.5, 4).flatten(1)


class ToyPurifier(Purifier):
    """Pulls every pixel towards grey, by half at strength 1; deterministic, without weights."""

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        """Images like ``x``."""
        return x + strength.view(-1, 1, 1, 1) * (0.5 - x) / 2


class _ToyTarget(TargetModel):
    def __init__(self, classifier: Classifier, gradients: bool) -> None:
        super().__init__()
        self.classifier, self.gradients = classifier, gradients

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(x if self.gradients else x.detach())
        return logits if self.gradients else logits.detach()

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> list[Tensor]:
        return [self.classifier.embed(x)]

    def clean_features(self, layers: Sequence[str] = ()) -> tuple[list[Tensor], Tensor]:
        weights = cast("ToyClassifier", self.classifier).weight
        x, _ = toy_images(64, weights.shape[1] // 64)
        labels = torch.arange(len(x), device=weights.device) % len(weights)
        return self.features(x.to(weights.device)), labels


def toy_target(num_classes: int = 2, channels: int = 1, size: int = 8, gradients: bool = True) -> TargetModel:
    """A target model over a `ToyClassifier`; without ``gradients`` its logits are detached from the images."""
    return _ToyTarget(ToyClassifier(num_classes, channels, size), gradients)


def toy_images(n: int = 6, channels: int = 1, size: int = 8) -> tuple[Tensor, Stream]:
    """``n`` smooth images in [0, 1], (N, C, H, W), and their random streams."""
    generator = torch.Generator().manual_seed(n)
    coarse = torch.rand(n, channels, max(size // 4, 1), max(size // 4, 1), generator=generator)
    images = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    return images, Stream.named("toy", 0, torch.arange(n))


def toy_split(n: int = 24, channels: int = 1, size: int = 8) -> Split:
    """``n`` toy images of one client, in two classes."""
    images, _ = toy_images(n, channels, size)
    return Split(images, torch.arange(n) % 2, tuple(f"p{i}" for i in range(n)), ("toy",) * n)


def toy_outcome(n: int = 8, draws: int = 2, detector: bool = True) -> Outcome:
    """An outcome of ``n`` images in two classes, in which the attack changes every second prediction."""
    labels = torch.arange(n) % 2
    attacked = torch.where(torch.arange(n) % 4 < 2, labels, 1 - labels)

    def predicted(predictions: Tensor, score: float) -> Predictions:
        scores = torch.linspace(0, 1, n) + score if detector else torch.full((n,), torch.nan)
        flagged = (scores > 1).expand(draws, n)
        return Predictions(
            predictions=predictions.expand(draws, n),
            flagged=flagged,
            rejected=torch.zeros(draws, n, dtype=torch.bool),
            scores=scores.expand(draws, n),
            changed=flagged,
            purified_rmse=flagged * 0.01,
        )

    return Outcome(
        labels=labels,
        sites=("a", "b") * (n // 2) + ("a",) * (n % 2),
        patients=tuple(f"p{i}" for i in range(n)),
        clean=predicted(labels, 0.0),
        attacked=predicted(attacked, 0.5),
        distances=torch.full((n,), 4 / 255),
        num_classes=2,
        lesion_class=1,
        index=torch.arange(n),
        rungs=(replace(RungResult.empty("toy", "oblivious", n), gradients=torch.full((n,), 10)),),
    )


class Stop(Exception):
    """Simulates the user's Ctrl-C."""


class StopAfter:
    """Progress (and its own task) that raises `Stop` once ``steps`` steps are done."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def task(self, description: str, total: int) -> StopAfter:
        """Itself."""
        return self

    def grid(self, total: int) -> Grid:
        """A display that is not shown."""
        return Silent().grid(total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count, and raise `Stop` at the chosen step."""
        self.left -= steps
        if steps and self.left <= 0:
            raise Stop

    def __enter__(self) -> StopAfter:
        return self

    def __exit__(self, *_: object) -> None:
        return None
