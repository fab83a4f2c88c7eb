"""What every diffusion sampler keeps to, on an untrained network: batches, streams, gradients, memory, parameters."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.bridge import BridgePurifier
from rbmed_purifiers.diffusion.purifier import DiffusionPurifier
from rbmed_purifiers.diffusion.samplers import (
    DDIMPurifier,
    DDPMPurifier,
    DiffPurePurifier,
    GDMPPurifier,
    GradualPurifier,
    OneStepPurifier,
)
from robustbench_med.errors import BadParameter

SIZE = 16
TINY = {"width": 8, "levels": 2}
#: Every sampler with parameters that make it quick and still take several moves.
SAMPLERS: dict[type[DiffusionPurifier], dict[str, Any]] = {
    DDPMPurifier: {"t_min": 4, "t_max": 9},
    DDIMPurifier: {"steps": 3},
    OneStepPurifier: {},
    DiffPurePurifier: {"t_min": 40, "steps": 4},
    GDMPPurifier: {"steps": 3, "rounds": 2},
    GradualPurifier: {"times": (20, 60)},
    BridgePurifier: {},
}
every = pytest.mark.parametrize("cls", SAMPLERS, ids=lambda cls: cls.__name__)


def smooth(n: int, seed: int = 0, channels: int = 1) -> Tensor:
    """Images with bilinear shading between four random corners, in [0.2, 0.8]."""
    corners = torch.rand(n, channels, 2, 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(corners, size=SIZE, mode="bilinear", align_corners=True) * 0.6 + 0.2


def purifier(cls: type[DiffusionPurifier], channels: int = 1, **params: Any) -> DiffusionPurifier:
    torch.manual_seed(0)
    made = cls(cls.Params(**{**TINY, **SAMPLERS[cls], **params}))
    made.build(channels, SIZE)
    return made.eval().requires_grad_(False)


def stream(n: int, name: str = "defense") -> rbmed.Stream:
    return rbmed.Stream.named(name, 0, torch.arange(n))


@every
@pytest.mark.parametrize(("channels", "fold"), [(1, 1), (3, 4)])
def test_purified_images_keep_shape_type_and_range(cls: type[DiffusionPurifier], channels: int, fold: int) -> None:
    x = smooth(3, channels=channels)
    made = purifier(cls, channels, fold=fold)
    clean = made.purify(x, torch.tensor([0.0, 0.5, 1.0]), stream(3))
    assert clean.shape == x.shape
    assert clean.dtype == torch.float32
    assert clean.min() >= 0
    assert clean.max() <= 1
    assert made.purify(x.double(), torch.ones(3), stream(3)).dtype == torch.float64


@every
def test_an_image_alone_is_purified_as_in_a_batch(cls: type[DiffusionPurifier]) -> None:
    """Of 34 images, in two parts, each with its own strength; in an order other than that of the strengths."""
    made, x, rng = purifier(cls), smooth(34), stream(34)
    strength = torch.linspace(0, 1, 34)[torch.randperm(34, generator=torch.Generator().manual_seed(1))]
    whole = made.purify(x, strength, rng[:])
    for rows in (torch.tensor([0]), torch.tensor([33, 7, 21])):
        alone = made.purify(x[rows], strength[rows], rng[rows])
        torch.testing.assert_close(alone, whole[rows], atol=1e-5, rtol=0)


@every
def test_noise_comes_from_the_stream_only(cls: type[DiffusionPurifier]) -> None:
    made, x, half = purifier(cls), smooth(4), torch.full((4,), 0.5)
    rng = stream(4)
    first = made.purify(x, half, rng)
    state = torch.get_rng_state()
    assert torch.equal(made.purify(x, half, stream(4)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(made.purify(x, half, stream(4, "other")), first)
    assert not torch.equal(made.purify(x, half, rng), first)  # the stream has moved on


@every
def test_exact_gradient_agrees_with_finite_differences(cls: type[DiffusionPurifier]) -> None:
    """In float64, along a random direction of 32 images, which are denoised in two parts, their moves made again."""
    made, x = purifier(cls).double(), smooth(32).double()
    strength, direction = torch.linspace(0, 1, 32), torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    def total(images: Tensor) -> Tensor:
        return made.purify(images, strength, stream(32)).sin().sum()

    x.requires_grad_()
    gradient = torch.autograd.grad(total(x), x)[0]
    assert gradient.flatten(1).any(1).all()
    with torch.no_grad():
        numeric = (total(x + 1e-6 * direction) - total(x - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-6, atol=1e-7)


@every
def test_recomputed_gradients_equal_stored_ones(cls: type[DiffusionPurifier], monkeypatch: pytest.MonkeyPatch) -> None:
    made, x, strength = purifier(cls), smooth(20), torch.linspace(0, 1, 20)

    def gradient() -> Tensor:
        images = x.clone().requires_grad_()
        return torch.autograd.grad(made.purify(images, strength, stream(20)).square().sum(), images)[0]

    kept = {}
    for stored in (0, 10**12):
        monkeypatch.setattr("rbmed_purifiers.diffusion.purifier.STORED", {"cpu": stored})
        kept[stored] = gradient()
    torch.testing.assert_close(kept[0], kept[10**12], rtol=1e-5, atol=1e-6)


def test_memory_of_recomputed_gradients_hardly_grows_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rbmed_purifiers.diffusion.purifier.STORED", {"cpu": 0})
    assert peak(steps=10) <= 1.5 * peak(steps=1)


def peak(steps: int, images: int = 80) -> int:
    """Most bytes alive at once, by the allocator's own account, in one gradient through the purifier."""
    made, x = purifier(DDIMPurifier, steps=steps), smooth(images).requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        torch.autograd.grad(made.purify(x, torch.full((images,), 0.5), stream(images)).sum(), x)
    events = profiler.profiler.kineto_results.events()
    return int(max(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]")))


def test_activations_are_stored_as_far_as_the_limit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 2**26
    monkeypatch.setattr("rbmed_purifiers.diffusion.purifier.STORED", {"cpu": limit})
    few, many = (peak(steps, images=20) for steps in (1, 8))
    assert few > 2**20
    assert many <= limit * 1.2  # else it is recomputed, step by step


@every
def test_a_frozen_network_gets_no_gradient_and_a_free_one_does(cls: type[DiffusionPurifier]) -> None:
    made = purifier(cls).requires_grad_(True)
    made.purify(smooth(3), torch.ones(3), stream(3)).sum().backward()
    assert all(weight.grad is not None for weight in made.net.parameters())


def test_bfloat16_purifies_nearly_the_same() -> None:
    x, half = smooth(4), torch.full((4,), 0.5)
    precise = purifier(DDIMPurifier).purify(x, half, stream(4))
    fast = purifier(DDIMPurifier, precision="bfloat16").purify(x, half, stream(4))
    assert fast.dtype == torch.float32
    assert 0 < float((fast - precise).abs().max()) < 0.03


def test_times_follow_the_strength() -> None:
    strength = torch.tensor([0.0, 0.5, 1.0, -1.0, 2.0])
    assert purifier(DDIMPurifier).times(strength).tolist() == [50, 100, 150, 50, 150]
    assert purifier(DiffPurePurifier, t_min=100).times(strength).tolist() == [100] * 5
    gradual = purifier(GradualPurifier, times=(20, 60))
    assert gradual.times(strength).tolist() == [1, 10, 20, 1, 20]


def test_pictures_show_noised_and_denoised_images_at_several_times() -> None:
    x = smooth(2)
    rows = purifier(DDIMPurifier).pictures(x, stream(2))
    assert list(rows) == ["image", *(f"{what} t={t}" for t in (50, 100, 150) for what in ("noised", "denoised"))]
    assert all(row.shape == x.shape for row in rows.values())
    assert float((rows["noised t=150"] - x).std()) > 1.5 * float((rows["noised t=50"] - x).std())


def test_samplers_share_one_training() -> None:
    """The family's weights depend on the same parameters, with the same defaults; the states have the same names."""
    family = [cls for cls in SAMPLERS if cls.family == "unet"]
    assert set(SAMPLERS) - set(family) == {BridgePurifier}

    def trained(cls: type[DiffusionPurifier]) -> dict[str, Any]:
        fields = cls.Params.model_fields
        return {name: info.default for name, info in fields.items() if info.json_schema_extra != {"runtime": True}}

    first = family[0]
    for cls in family:
        assert trained(cls) == trained(first)
        purifier(cls).load_state_dict(purifier(first).state_dict())


@pytest.mark.parametrize(
    ("cls", "params", "message"),
    [
        (DDPMPurifier, {"t_min": 160}, "t_min <= t_max"),
        (DDIMPurifier, {"t_max": 300}, "t_max <= train_t_max"),
        (DDIMPurifier, {"steps": 21}, "less than or equal to 20"),
        (DDIMPurifier, {"steps": 6, "t_min": 5}, "do not fit into t_min=5"),
        (DiffPurePurifier, {"steps": 101}, "do not fit into t_min=100"),
        (GDMPPurifier, {"steps": 60}, "do not fit into t_min=50"),
        (GradualPurifier, {"times": (50, 30)}, "must not decrease"),
        (GradualPurifier, {"times": (50, 201)}, "nor exceed train_t_max=200"),
        (BridgePurifier, {"t_min": 10}, "t_min=10 is below train_t_min=25"),
    ],
)
def test_impossible_parameters_are_refused(cls: type[DiffusionPurifier], params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        cls.Params(**params)


@every
def test_an_image_side_that_does_not_fold_is_refused(cls: type[DiffusionPurifier]) -> None:
    with pytest.raises(BadParameter, match="multiple of 8, not 20 px"):
        cls().build(1, 20)
