"""The diffusion purifier: times, the DDIM update, training and resuming."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from pydantic import ValidationError
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.ddpm import DDPMParams, DDPMPurifier
from robustbench_med.errors import BadParameter, RbmedError, WeightsError
from robustbench_med.testing import Stop, StopAfter

SIZE = 16
TINY = {"width": 8, "levels": 2, "train_precision": "float32"}


def smooth(n: int, seed: int = 0, channels: int = 1) -> Tensor:
    """Images with bilinear shading between four random corners."""
    corners = torch.rand(n, channels, 2, 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(corners, size=SIZE, mode="bilinear", align_corners=True)


def purifier(channels: int = 1, **params: Any) -> DDPMPurifier:
    torch.manual_seed(0)
    made = DDPMPurifier(DDPMParams(**{**TINY, **params}))
    made.build(channels, SIZE)
    return made.eval()


def stream(n: int, name: str = "defense") -> rbmed.Stream:
    return rbmed.Stream.named(name, 0, torch.arange(n))


@pytest.mark.parametrize(("channels", "fold"), [(1, 1), (1, 2), (3, 4)])
def test_purified_images_keep_shape_type_and_range(channels: int, fold: int) -> None:
    x = smooth(3, channels=channels)
    clean = purifier(channels, fold=fold).purify(x, torch.tensor([0.0, 0.5, 1.0]), stream(3))
    assert clean.shape == x.shape
    assert clean.dtype == torch.float32
    assert clean.min() >= 0
    assert clean.max() <= 1


def test_time_follows_strength_from_t_min_to_t_max() -> None:
    made = purifier(t_min=50, t_max=150)
    assert made.times(torch.tensor([0.0, 0.5, 1.0, -1.0, 2.0])).tolist() == [50, 100, 150, 50, 150]


def test_an_image_alone_is_purified_as_in_a_batch() -> None:
    made, x, strength = purifier(), smooth(6), torch.linspace(0, 1, 6)
    whole = made.purify(x, strength, stream(6))
    alone = torch.cat([made.purify(x[i : i + 1], strength[i : i + 1], stream(6)[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=0)


def test_noise_comes_from_the_stream_only() -> None:
    made, x, half = purifier(), smooth(4), torch.full((4,), 0.5)
    first = made.purify(x, half, stream(4))
    state = torch.get_rng_state()
    assert torch.equal(made.purify(x, half, stream(4)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(made.purify(x, half, stream(4, "other")), first)


def test_gradient_reaches_every_image() -> None:
    x = smooth(3).requires_grad_()
    purifier().purify(x, torch.full((3,), 0.5), stream(3)).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.flatten(1).any(1).all()


def test_exact_gradient_agrees_with_finite_differences() -> None:
    """In float64, along a random direction of 32 images, which are denoised in two parts."""
    made = purifier(steps=3).requires_grad_(False).double()
    x = smooth(32).double() * 0.6 + 0.2
    half, direction = torch.full((32,), 0.5), torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()

    def total(images: Tensor) -> Tensor:
        return made.purify(images, half, stream(32)).sin().sum()

    x.requires_grad_()
    slope = (torch.autograd.grad(total(x), x)[0] * direction).sum()
    with torch.no_grad():
        numeric = (total(x + 1e-6 * direction) - total(x - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close(slope, numeric, rtol=1e-6, atol=0)


def test_recomputed_gradients_equal_stored_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x, strength = purifier(steps=4), smooth(40), torch.linspace(0, 1, 40)

    def gradient() -> Tensor:
        images = x.clone().requires_grad_()
        return torch.autograd.grad(made.purify(images, strength, stream(40)).square().sum(), images)[0]

    stored = gradient()  # parameters want gradients as well, and so the whole graph is kept
    made.requires_grad_(False)
    torch.testing.assert_close(gradient(), stored, rtol=1e-6, atol=0)
    monkeypatch.setattr("rbmed_purifiers.ddpm.CHUNK", {"cpu": 40})
    torch.testing.assert_close(gradient(), stored, rtol=1e-4, atol=1e-6)


def test_memory_of_the_gradient_hardly_grows_with_the_steps() -> None:
    assert peak(steps=10) <= 1.5 * peak(steps=1)


def peak(steps: int) -> int:
    """Most bytes alive at once, by the allocator's own account, in one gradient through the purifier."""
    made, x = purifier(steps=steps).requires_grad_(False), smooth(32).requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        torch.autograd.grad(made.purify(x, torch.full((32,), 0.5), stream(32)).sum(), x)
    events = profiler.profiler.kineto_results.events()
    return int(max(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]")))


@pytest.mark.parametrize("time", [50, 100])
def test_steps_equal_those_of_diffusers(time: int) -> None:
    """With one time for the batch, the vectorised update is `DDIMScheduler.step`, eta 0 and no clipping."""
    made, x = purifier(t_min=time, t_max=time, steps=5, fold=1), smooth(3)
    reference = DDIMScheduler(1000, beta_start=1e-4, beta_end=2e-2, clip_sample=False, set_alpha_to_one=True)
    reference.set_timesteps(1000 * 5 // time)  # a stride of time / 5
    z = reference.add_noise(x * 2 - 1, stream(3).normal(tuple(x.shape)), torch.tensor(time - 1))
    for left in range(5, 0, -1):
        now = time * left // 5
        with torch.no_grad():
            eps = made.net(z, torch.full((3,), now)).sample
        z = reference.step(eps, now - 1, z).prev_sample
    clean = made.purify(x, torch.zeros(3), stream(3))
    torch.testing.assert_close(clean, z.add(1).div(2).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def trained() -> tuple[DDPMPurifier, dict[str, float]]:
    made = purifier(width=16, train_steps=250, batch_size=8, lr=5e-3, ema=0.95)
    return made, made.fit(smooth(16), rbmed.TrainJob())


def test_training_lowers_the_loss(trained: tuple[DDPMPurifier, dict[str, float]]) -> None:
    assert trained[1]["loss"] < 0.5  # predicting no noise at all costs 1


def test_purification_moves_noised_images_closer_to_the_clean_ones(
    trained: tuple[DDPMPurifier, dict[str, float]],
) -> None:
    made, clean = trained[0], smooth(16)
    noised = (clean + 0.15 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    with torch.no_grad():
        purified = made.purify(noised, torch.full((16,), 0.5), stream(16))
    assert float((purified - clean).square().mean()) < 0.6 * float((noised - clean).square().mean())
    assert trained[1]["psnr_purified"] > trained[1]["psnr_noised"] + 3


def test_half_precision_storage_is_harmless(trained: tuple[DDPMPurifier, dict[str, float]]) -> None:
    made, x, half = trained[0], smooth(4), torch.full((4,), 0.5)
    other = purifier(width=16)
    other.load_state_dict({name: value.half() for name, value in made.state_dict().items()})
    torch.testing.assert_close(other.purify(x, half, stream(4)), made.purify(x, half, stream(4)), atol=0.01, rtol=0)


def test_bfloat16_purifies_nearly_the_same(trained: tuple[DDPMPurifier, dict[str, float]]) -> None:
    made, x, half = trained[0], smooth(4), torch.full((4,), 0.5)
    other = purifier(width=16, precision="bfloat16")
    other.load_state_dict(made.state_dict())
    purified = other.purify(x, half, stream(4))
    assert purified.dtype == torch.float32
    difference = float((purified - made.purify(x, half, stream(4))).detach().abs().max())
    assert 0 < difference < 0.03


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rbmed_purifiers.ddpm.SAVE_EVERY", 4)
    images, params = smooth(8), {"train_steps": 10, "batch_size": 4}
    whole = purifier(**params)
    metrics = whole.fit(images, rbmed.TrainJob())
    with pytest.raises(Stop):
        purifier(**params).fit(images, rbmed.TrainJob(checkpoints=tmp_path, progress=StopAfter(7)))
    resumed = purifier(**params)
    nn.init.zeros_(resumed.net.conv_in.weight)  # shows that the weights come from the checkpoint
    assert resumed.fit(images, rbmed.TrainJob(checkpoints=tmp_path)) == metrics
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "ddpm.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"ddpm\.safetensors is damaged"):
        purifier(train_steps=1).fit(smooth(4), rbmed.TrainJob(checkpoints=tmp_path))


def test_diverged_training_is_an_error() -> None:
    with pytest.raises(RbmedError, match="diverged at step 1"):
        purifier(train_steps=1).fit(torch.full((4, 1, SIZE, SIZE), torch.nan), rbmed.TrainJob())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"t_min": 160}, "t_min <= t_max"),
        ({"t_max": 300}, "t_max <= train_t_max"),
        ({"steps": 60}, "do not fit into t_min=50"),
    ],
)
def test_impossible_times_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DDPMParams(**params)


def test_an_image_side_that_does_not_fold_is_refused() -> None:
    with pytest.raises(BadParameter, match="multiple of 8, not 20 px"):
        DDPMPurifier().build(1, 20)
