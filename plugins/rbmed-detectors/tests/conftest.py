"""A small classifier with features, purifiers, smooth images, and an autoencoder that has learned those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_detectors.mae import MAEDetector
from robustbench_med.plugins.registry import Registry

SIZE = 16
TINY = {"patch": 4, "width": 32, "depth": 1, "decoder_width": 32, "decoder_depth": 1, "heads": 2, "mask_ratio": 0.5}
Make = Callable[..., Any]


class Net(rbmed.Classifier):
    """Eight features of the pixels, three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(SIZE * SIZE, 8, bias=False), nn.Linear(8, 3, bias=False)

    def embed(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(6 * (x.flatten(1) - 0.5)).tanh()
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embed(x)) * 5
        return logits


class Noise(rbmed.Purifier):
    """Adds noise that grows with the strength."""

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        return (x + 0.2 * strength.view(-1, 1, 1, 1) * rng.normal(tuple(x.shape))).clamp(0, 1)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry(only=["rbmed-detectors"])


@pytest.fixture
def system() -> rbmed.System:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return rbmed.System(Net().eval().requires_grad_(False), Noise())


@pytest.fixture(scope="session")
def smooth() -> Callable[..., Tensor]:
    """Builds images with bilinear shading between four random corners: hidden patches follow from visible ones."""

    def build(n: int, seed: int = 0) -> Tensor:
        corners = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
        return F.interpolate(corners, size=SIZE, mode="bilinear", align_corners=True)

    return build


@pytest.fixture(scope="session")
def split(smooth: Callable[..., Tensor]) -> rbmed.Split:
    """A client's 60 training images, of three classes by brightness."""
    images = smooth(60, seed=3)
    labels = (images.mean((1, 2, 3)) * 6 - 1.5).clamp(0, 2).long()
    return rbmed.Split(images, labels, tuple(f"p{i}" for i in range(60)), ("north",) * 60)


@pytest.fixture(scope="session")
def stream() -> Callable[..., rbmed.Stream]:
    def build(n: int, name: str = "defense", device: str = "cpu") -> rbmed.Stream:
        return rbmed.Stream.named(name, 0, torch.arange(n, device=device))

    return build


@pytest.fixture(scope="session")
def make(registry: Registry) -> Make:
    """Builds a part for small images by reference, with fixed initial weights."""

    def build(ref: str, kind: str = "detector", **params: Any) -> Any:
        name = ref.partition(":")[0]
        tiny = TINY if name in ("mae", "dram", "mae-repair") else {}
        part = rbmed.load_component(kind, rbmed.PartRef(name, {**tiny, **params}), registry=registry)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            part.build(1, SIZE)
        return part.eval()

    return build


@pytest.fixture(scope="session")
def knows_smooth(smooth: Callable[..., Tensor], make: Make) -> dict[str, Tensor]:
    """State of an autoencoder that a few hundred steps have taught smooth images."""
    part: MAEDetector = make("mae")
    images, generator = smooth(256, seed=9), torch.Generator().manual_seed(0)
    learner = part.learner(rbmed.System(Net())).train()
    optimizer = torch.optim.AdamW(learner.parameters(), 5e-3, fused=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(600):
            optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 600)
            rows = torch.randint(256, (16,), generator=generator)
            optimizer.zero_grad()
            learner.loss(images[rows], rows).backward()
            optimizer.step()
    return learner.state_dict()
