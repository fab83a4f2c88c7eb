"""Small real models, and target models over them that count their passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from robustbench_med import Stream, TargetModel


class Counted(TargetModel):
    """A target model over a module; counts forward and backward passes per image, and those of the busiest image.

    With several ``draws`` each image is answered under that much noise of its own, whatever batch it comes in.
    """

    def __init__(
        self, net: nn.Module, images: int, stop: bool = True, draws: int = 1, ids: Tensor | None = None
    ) -> None:
        super().__init__()
        self.net, self.stop_on_success, self.draws = net, stop, draws
        self.forwards, self.gradients = torch.zeros(images, dtype=torch.int64), torch.zeros(images, dtype=torch.int64)
        self.most = {"queries": 0, "gradients": 0}
        self.rows = torch.arange(images)
        self.rng, self.calls = Stream.named("defense", 0, self.rows if ids is None else ids), 0

    def at(self, index: Tensor) -> Counted:
        part = Counted(self.net, 0, self.stop_on_success, self.draws)
        part.forwards, part.gradients, part.most = self.forwards, self.gradients, self.most
        part.rows, part.rng, part.calls = self.rows[index], self.rng[index], self.calls
        return part

    def forward(self, x: Tensor) -> Tensor:
        return self.each(x).mean(1)

    def each(self, x: Tensor) -> Tensor:
        assert len(x) == len(self.rows)
        assert x.numel() == 0 or 0 <= x.min() <= x.max() <= 1
        self.forwards[self.rows] += self.draws
        self.most["queries"] += self.draws
        if torch.is_grad_enabled() and x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self._count_gradient)
        many = x.repeat_interleave(self.draws, 0)
        if self.draws > 1:
            rng = self.rng.moment(self.calls).repeat(self.draws)
            many, self.calls = many + 0.1 * rng.normal(tuple(many.shape)), self.calls + 1
        return self.net(many).unflatten(0, (len(x), self.draws))

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> list[Tensor]:
        self.forwards[self.rows] += 1
        self.most["queries"] += 1
        if torch.is_grad_enabled() and x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self._count_one)
        return [self.net[:-1](x)]

    def clean_features(self, layers: Sequence[str] = ()) -> tuple[list[Tensor], Tensor]:
        x = torch.rand((200, 3, 12, 12), generator=torch.Generator().manual_seed(11))
        with torch.no_grad():
            return [self.net[:-1](x)], self.net(x).argmax(1)

    def _count_one(self, gradient: Tensor) -> None:
        self.gradients[self.rows] += 1
        self.most["gradients"] += 1

    def _count_gradient(self, gradient: Tensor) -> None:
        self.gradients[self.rows] += self.draws
        self.most["gradients"] += self.draws


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def convnet() -> Callable[..., nn.Module]:
    """Builds a fixed small convolutional net for 3 x 12 x 12 images and K classes."""

    def build(classes: int, scale: float = 1.0) -> nn.Module:
        generator = torch.Generator().manual_seed(7)
        net = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, classes)),
        )
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
