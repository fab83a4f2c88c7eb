"""The denoising autoencoder: it learns to denoise, and its strength blends."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.learned.dae import DAE, DenoisingLearner
from robustbench_med.errors import BadParameter
from robustbench_med.testing import ToyClassifier

SIZE = 16


def smooth(n: int, seed: int) -> Tensor:
    coarse = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")


def stream(n: int) -> rbmed.Stream:
    return rbmed.Stream.named("test", 0, torch.arange(n))


def built() -> DAE:
    torch.manual_seed(0)
    made = DAE(DAE.Params(width=8, depth=1))
    made.build(1, SIZE)
    return made.eval()


def learner(made: DAE) -> DenoisingLearner:
    return made.learner(rbmed.System(ToyClassifier(size=SIZE)))


@pytest.fixture(scope="module")
def trained() -> DAE:
    """Trained as a strategy does: a learner of a fresh part, whose state is then loaded into the part."""
    with torch.random.fork_rng():
        other = learner(built()).train()
        optimizer, images = torch.optim.Adam(other.parameters(), 3e-3), smooth(64, seed=1)
        for _ in range(150):
            optimizer.zero_grad()
            torch.autograd.backward(other.loss(images, torch.zeros(64, dtype=torch.int64)))
            optimizer.step()
        made = built()
        made.load_state_dict(other.state_dict())
    return made.requires_grad_(False)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def test_learner_and_part_have_the_same_state() -> None:
    made = built()
    own, shared = made.state_dict(), learner(made).state_dict()
    assert list(own) == list(shared)
    assert all(own[name].data_ptr() == shared[name].data_ptr() for name in own)


def test_training_teaches_it_to_denoise_images_it_has_not_seen(trained: DAE) -> None:
    clean = smooth(16, seed=2)
    noisy = (clean + 0.08 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    denoised = trained.purify(noisy, torch.ones(16), stream(16))
    assert psnr(denoised, clean) > psnr(noisy, clean) + 4
    half = trained.purify(noisy, torch.full((16,), 0.5), stream(16))
    assert psnr(noisy, clean) + 2 < psnr(half, clean) < psnr(denoised, clean)


def test_strength_blends_from_the_image_to_the_denoised_one(trained: DAE) -> None:
    x = smooth(1, seed=4).expand(3, -1, -1, -1) * 0.8 + 0.1
    none, half, full = trained.purify(x, torch.tensor([0.0, 0.5, 1.0]), stream(3))
    assert torch.equal(none, x[0])
    assert not torch.equal(full, x[0])
    torch.testing.assert_close(half, (none + full) / 2)


def test_loss_is_that_of_the_noise_for_a_network_that_changes_nothing() -> None:
    """Noise of sigma uniform in [0, s] has the mean square s^2 / 3."""
    made = built()
    torch.nn.init.zeros_(made.net.last.weight)
    torch.nn.init.zeros_(made.net.last.bias)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        loss = learner(made).loss(torch.full((2000, 1, SIZE, SIZE), 0.5), torch.zeros(2000, dtype=torch.int64))
    assert loss.item() == pytest.approx(0.1**2 / 3, rel=0.05)


def test_pictures_show_what_it_does(trained: DAE) -> None:
    clean, noisy, denoised = trained.pictures(smooth(4, seed=5), stream(4)).values()
    assert psnr(denoised, clean) > psnr(noisy, clean)


def test_an_odd_side_is_refused() -> None:
    with pytest.raises(BadParameter, match=r"purifier dae: .* must be even, not 15 px"):
        DAE().build(1, 15)
