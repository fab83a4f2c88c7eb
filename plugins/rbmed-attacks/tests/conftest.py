"""Small real models, and surfaces over them that count what is asked of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustbench_med import Surface


class Counted(Surface):
    """A surface over a module; counts forward passes per image, with and without gradients."""

    def __init__(self, net: nn.Module, images: int, stop: bool = True) -> None:
        super().__init__()
        self.net, self.stop_on_success = net, stop
        self.forwards, self.gradients = torch.zeros(images, dtype=torch.int64), torch.zeros(images, dtype=torch.int64)
        self.rows = torch.arange(images)

    def at(self, index: Tensor) -> Counted:
        part = Counted(self.net, 0, self.stop_on_success)
        part.forwards, part.gradients, part.rows = self.forwards, self.gradients, self.rows[index]
        return part

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == len(self.rows)
        self.forwards[self.rows] += 1
        self.gradients[self.rows] += int(x.requires_grad)
        return self.net(x)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def convnet() -> Callable[..., nn.Module]:
    """Builds a fixed small convolutional net for 3 x 12 x 12 images and K classes."""

    def build(classes: int, scale: float = 1.0) -> nn.Module:
        generator = torch.Generator().manual_seed(7)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, classes),
        )  # fmt: skip
        with torch.no_grad():
            for weight in net.parameters():
                bound = 2 / max(weight[0].numel(), 1) ** 0.5
                weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
            # Without this, random weights answer every image with the same class.
            net[-1].bias.sub_(net.eval()(torch.rand((256, 3, 12, 12), generator=generator)).mean(0))
            net[-1].weight.mul_(scale)
            net[-1].bias.mul_(scale)
        return net

    return build


@pytest.fixture(scope="session")
def images() -> Callable[[int], Tensor]:
    """Builds N fixed images of 3 x 12 x 12 that reach both ends of [0, 1]."""

    def build(n: int) -> Tensor:
        noise = torch.rand((n, 3, 12, 12), generator=torch.Generator().manual_seed(3))
        return (noise * 1.2 - 0.1).clamp(0, 1)

    return build


@pytest.fixture(scope="session")
def counted() -> type[Counted]:
    return Counted
