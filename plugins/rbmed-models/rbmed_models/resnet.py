"""ResNet classifiers, the feature extractor that other classifiers use, and its layers.

The layers have the names, initial weights and arithmetic of timm's. Importing timm takes longer than most commands do:
it brings torchvision and torch's compiler. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

import robustbench_med as rbmed
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
            nn.BatchNorm2d if params.norm == "batch" else partial(nn.GroupNorm, 4),
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


#: Makes a normalisation of so many channels.
Norm = Callable[[int], nn.Module]


def _convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)


class Block(nn.Module):
    """Two convolutions and a way around them (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, before: int, after: int, stride: int, norm: Norm) -> None:
        super().__init__()
        # Made first, and registered last: both decide which random numbers it starts from.
        around = None
        if stride != 1 or before != after:
            around = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), norm(after))
        self.conv1 = _convolution(before, after, stride)
        self.bn1 = norm(after)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = _convolution(after, after)
        self.bn2 = norm(after)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample = around

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) -> (N, ``after``, H / stride, W / stride)."""
        found: Tensor = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        found += x if self.downsample is None else self.downsample(x)
        after: Tensor = self.act2(found)
        return after


class Body(nn.Module):
    """Images (N, C, H, W) -> features (N, last of ``widths``): a deep stem and four stages of blocks.

    Args:
        channels: C.
        widths: channels of the stages.
        layers: blocks of each stage.
        stem: channels of the first two of the stem's three convolutions.
        norm: makes a normalisation.
        pool: max-pool after the stem.
    """

    def __init__(self, channels: int, widths: Iterable[int], layers: int, stem: int, norm: Norm, pool: bool) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            *(_convolution(channels, stem, 2), norm(stem), nn.ReLU(inplace=True)),
            *(_convolution(stem, stem), norm(stem), nn.ReLU(inplace=True)),
            _convolution(stem, 2 * stem),
        )
        self.bn1 = norm(2 * stem)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Sequential()
        before, stages = 2 * stem, []
        for number, width in enumerate(widths):
            strides = (1 if number == 0 else 2, *(1,) * (layers - 1))
            stages.append(
                nn.Sequential(
                    *(Block(width if at else before, width, stride, norm) for at, stride in enumerate(strides))
                )
            )
            before = width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        for part in self.modules():
            if isinstance(part, Block):
                nn.init.zeros_(part.bn2.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the last stage's maps."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        maps: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return maps.mean((2, 3))
