"""ResNet classifiers, and the feature extractor that other classifiers use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_models.body import Body
from robustbench_med.errors import BadParameter


class ResNetParams(rbmed.Params):
    """Parameters of the feature extractor."""

    layers: int = Field(1, ge=1, le=6, description="Basic blocks in each of the four stages: 1 is ResNet-10, 2 is 18.")
    width: int = Field(32, ge=8, multiple_of=8, description="Channels of the first stage; each stage doubles them.")
    norm: Literal["batch", "group"] = Field(
        "batch", description="Normalisation: batch, or group, which does not mix the statistics of clients."
    )
    pool: bool = Field(
        True, description="Max-pool after the stem; without it features have twice the resolution at 3 x the cost."
    )
    mean: float = Field(0.5, description="Subtracted from pixels inside the model.")
    std: float = Field(0.25, gt=0, description="Divides pixels inside the model, after the mean is subtracted.")


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(4, channels)


class Features(nn.Module):
    """Images in [0, 1] (N, C, H, W) -> pooled features (N, ``width``); normalises its input."""

    def __init__(self, params: ResNetParams, channels: int) -> None:
        super().__init__()
        self.mean, self.std = params.mean, params.std
        widths = tuple(params.width * factor for factor in (1, 2, 4, 8))
        # Three 3x3 convolutions instead of one 7x7: on the CPU, with one input channel, the 7x7 costs 1.6 x as much in
        # the backward pass, and the deep stem is more accurate (He et al. 2019, arXiv:1812.01187).
        self.body = Body(
            channels,
            widths,
            params.layers,
            params.width // 2,
            nn.BatchNorm2d if params.norm == "batch" else _group_norm,
            params.pool,
        )
        self.width: int = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Features, shape (N, ``width``)."""
        features: Tensor = self.body((x - self.mean) / self.std)
        return features


class ResNetClassifier(rbmed.Classifier):
    """A feature extractor and one linear head."""

    heads = ("head.",)

    def __init__(self, params: ResNetParams, num_classes: int, channels: int) -> None:
        super().__init__()
        self.features = Features(params, channels)
        self.head = nn.Linear(self.features.width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (N, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """Pooled features, shape (N, F): the input of the head."""
        features: Tensor = self.features(x)
        return features


class ResNetModel(rbmed.Model):
    """ResNet (He et al. 2016) with a deep stem, for square images of 32 px or more."""

    Params = ResNetParams

    def build(self, num_classes: int, channels: int, size: int) -> ResNetClassifier:
        """A fresh classifier; ``size`` only has to be at least 32."""
        check_size(size, self.params)
        return ResNetClassifier(self.params, num_classes, channels)


def check_size(size: int, params: ResNetParams) -> None:
    """Raise `BadParameter` for images that are too small for the strides."""
    smallest = 32 if params.pool else 16
    if size < smallest:
        raise BadParameter(
            f"images of {size} px are too small for a ResNet with pool={params.pool}; it needs at least {smallest} px"
        )
