"""The layers of a ResNet, with the names, initial weights and arithmetic of timm's.

Importing timm takes longer than most commands do: it brings torchvision and torch's compiler. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

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
