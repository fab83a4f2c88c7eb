"""What the diffusion purifiers learn: noise, and for the bridge the perturbations of an attack."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.bridge import BridgeLearner, BridgePurifier
from rbmed_purifiers.diffusion.purifier import DiffusionPurifier
from rbmed_purifiers.diffusion.samplers import DDIMPurifier
from rbmed_purifiers.diffusion.unet import fold
from robustbench_med.testing import ToyClassifier

SIZE = 16
TINY = {"width": 16, "levels": 2}


def smooth(n: int, seed: int = 0) -> Tensor:
    """Images with bilinear shading between four random corners."""
    corners = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(corners, size=SIZE, mode="bilinear", align_corners=True)


def build(cls: type[DiffusionPurifier], **params: Any) -> DiffusionPurifier:
    torch.manual_seed(0)
    made = cls(cls.Params(**{**TINY, **params}))
    made.build(1, SIZE)
    return made


def learner(made: DiffusionPurifier) -> rbmed.Learner:
    return made.learner(rbmed.System(ToyClassifier(size=SIZE)))


def train(learner: rbmed.Learner, steps: int, lr: float = 5e-3) -> list[float]:
    """Losses of a training on batches of 8 of 16 images; the strategies have tests of their own."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    images, losses = smooth(16), []
    for step in range(steps):
        rows = torch.arange(step * 8, step * 8 + 8) % 16
        loss = learner.loss(images[rows], torch.zeros(8, dtype=torch.int64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(scope="module")
def trained() -> tuple[DiffusionPurifier, list[float]]:
    made = build(DDIMPurifier)
    losses = train(learner(made), 140)
    return made.eval().requires_grad_(False), losses


def test_training_lowers_the_loss(trained: tuple[DiffusionPurifier, list[float]]) -> None:
    losses = trained[1]
    assert losses[0] > 0.8  # predicting no noise at all costs 1
    assert sum(losses[-20:]) / 20 < 0.4


def test_purification_moves_noised_images_closer_to_the_clean_ones(
    trained: tuple[DiffusionPurifier, list[float]],
) -> None:
    made, clean = trained[0], smooth(16)
    noised = (clean + 0.15 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    rng = rbmed.Stream.named("defense", 0, torch.arange(16))
    purified = made.purify(noised, torch.full((16,), 0.5), rng)
    assert float((purified - clean).square().mean()) < 0.6 * float((noised - clean).square().mean())


def test_half_precision_storage_is_harmless(trained: tuple[DiffusionPurifier, list[float]]) -> None:
    made, x, half, rng = trained[0], smooth(4), torch.full((4,), 0.5), rbmed.Stream.named("d", 0, torch.arange(4))
    other = build(DDIMPurifier)
    other.load_state_dict({name: value.half() for name, value in made.state_dict().items()})
    torch.testing.assert_close(other.purify(x, half, rng[:]), made.purify(x, half, rng[:]), atol=0.01, rtol=0)


@pytest.mark.parametrize("cls", [DDIMPurifier, BridgePurifier])
def test_what_a_fresh_learner_learns_fits_the_part(cls: type[DiffusionPurifier]) -> None:
    made, taught = build(cls), learner(build(cls))
    train(taught, 1)
    assert any(not torch.equal(value, made.state_dict()[name]) for name, value in taught.state_dict().items())
    made.load_state_dict(taught.state_dict())  # strict: the same names
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in taught.state_dict().items())


@pytest.mark.parametrize("cls", [DDIMPurifier, BridgePurifier])
def test_the_loss_draws_from_the_global_generator_alone(cls: type[DiffusionPurifier]) -> None:
    taught, x, y = learner(build(cls)), smooth(4), torch.zeros(4, dtype=torch.int64)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(taught.loss(x, y).item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("cls", [DDIMPurifier, BridgePurifier])
def test_learning_in_bfloat16_reaches_every_weight(cls: type[DiffusionPurifier]) -> None:
    extra = {"attacked": "purifier", "guide": 1.0} if cls is BridgePurifier else {}
    taught = learner(build(cls, **extra))
    with torch.autocast("cpu", torch.bfloat16):
        loss = taught.loss(smooth(4), torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(weight.grad is not None and weight.grad.any() for weight in taught.parameters())


class Spy(nn.Module):
    """A network that knows the clean images: what it predicts is all that is not them."""

    def __init__(self, clean: Tensor, made: DiffusionPurifier) -> None:
        super().__init__()
        self.clean, self.schedule, self.fold = clean, made.schedule, made.params.fold

    def forward(self, z: Tensor, t: Tensor) -> SimpleNamespace:
        signal, noise = self.schedule.levels(t)
        return SimpleNamespace(sample=(z - signal * fold(self.clean, self.fold)) / noise)


@pytest.mark.parametrize("attacked", ["classifier", "purifier"])
def test_the_bridge_is_taught_all_that_is_not_the_clean_image(attacked: str) -> None:
    made, x = build(BridgePurifier, attacked=attacked), smooth(6)
    made.net = Spy(x, made)
    taught = learner(made)
    assert taught.loss(x, torch.zeros(6, dtype=torch.int64)).item() < 1e-8
    made.net.clean = smooth(6, seed=1)
    assert taught.loss(x, torch.zeros(6, dtype=torch.int64)).item() > 0.1


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_with_the_true_prediction_the_bridge_ends_in_the_clean_image(steps: int) -> None:
    """It starts from attacked images, and the prediction is the sum of noise and scaled perturbation."""
    made, x = build(BridgePurifier, steps=steps), smooth(4) * 0.8 + 0.1
    attacked = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    rng, strength = rbmed.Stream.named("defense", 0, torch.arange(4)), torch.linspace(1, 0, 4)
    signal, noise = made.schedule.levels(made.times(strength))
    white = F.pixel_unshuffle(rng[:].normal(tuple(x.shape)), made.params.fold)
    told = white + signal / noise * F.pixel_unshuffle(2 * (attacked - x), made.params.fold)
    made.net = Told(told)
    torch.testing.assert_close(made.purify(attacked, strength, rng), x, atol=2e-6, rtol=0)


class Told(nn.Module):
    def __init__(self, prediction: Tensor) -> None:
        super().__init__()
        self.prediction = prediction

    def forward(self, z: Tensor, t: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.prediction)


@pytest.mark.parametrize("attacked", ["classifier", "purifier"])
def test_the_attack_stays_in_its_ball_and_does_harm(attacked: str) -> None:
    made, x = build(BridgePurifier, attacked=attacked, eps=0.1), smooth(32) * 0.999
    taught = learner(made)
    assert isinstance(taught, BridgeLearner)
    torch.manual_seed(0)
    start, white = torch.full((32,), 25), torch.randn(32, 4, SIZE // 2, SIZE // 2)
    classifier = ToyClassifier(size=SIZE)
    answers = classifier(x).argmax(1)
    near = taught._attack(x, answers, start, white).detach()
    distances = (near - x).abs().flatten(1).amax(1)
    assert float(distances.max()) <= 0.1 + 1e-6
    assert float(distances.std()) > 0.01  # sizes differ between images
    assert near.min() >= 0
    assert near.max() <= 1
    losses = [F.cross_entropy(taught._logits(images, start, white), answers).item() for images in (x, near)]
    assert losses[1] > losses[0] + 0.05


def test_the_bridge_leaves_the_classifier_alone() -> None:
    made, classifier = build(BridgePurifier, guide=1.0), ToyClassifier(size=SIZE)
    before = classifier.weight.detach().clone()
    taught = made.learner(rbmed.System(classifier))
    train(taught, 2)
    assert torch.equal(classifier.weight, before)
    assert classifier.weight.requires_grad
    assert classifier.training
    assert list(taught.state_dict()) == list(made.state_dict())


def test_the_bridge_learns() -> None:
    losses = train(learner(build(BridgePurifier)), 50)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
