"""What holds for every purifier that any installed plugin offers, by its registry entry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.plugins.registry import Registry
from robustbench_med.testing import toy_images

SIZE, IMAGES = 16, 6
#: Where a purifier has such a parameter, its network is this small.
TINY: dict[str, Any] = {
    "width": 8,
    "levels": 2,
    "depth": 1,
    "heads": 2,
    "decoder_width": 8,
    "decoder_depth": 1,
    "patch": 4,
    "copies": 3,
}
#: Purifiers that would be large or slow otherwise.
OWN = {"majority": {"purifier": "ddim:width=8,levels=2"}, "ddpm": {"t_min": 4, "t_max": 20}}
OWN["smoothed"] = {"denoiser": "one-step:width=8,levels=2"}
#: They change no valid image.
CONTROLS = {"identity", "clamp"}
#: As published, they add as much noise to every image.
FIXED = {"diffpure", "smoothed"}
NAMES = [entry.qualified for entry in Registry().entries("purifier")]


@cache
def purifier(name: str) -> rbmed.Purifier:
    """A small purifier with random weights."""
    short = name.rpartition("/")[2]
    fields = Registry().load("purifier", name).Params.model_fields
    params = {key: value for key, value in TINY.items() if key in fields}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: rbmed.Purifier = rbmed.load_component("purifier", rbmed.PartRef(name, params | OWN.get(short, {})))
        made.build(1, SIZE)
    return made.eval().requires_grad_(False)


def images() -> tuple[Tensor, Tensor, rbmed.Stream]:
    """Smooth images with some noise, black and white pixels among them; strengths; streams."""
    x, rng = toy_images(IMAGES, size=SIZE)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return (1.2 * x - 0.1 + 0.05 * noise).clamp(0, 1), torch.linspace(0, 1, IMAGES), rng


@contextmanager
def global_generator_untouched() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before), "draws from torch's global generator"


every = pytest.mark.parametrize("name", NAMES)


@every
def test_images_keep_shape_type_and_range(name: str) -> None:
    made, (x, strength, rng) = purifier(name), images()
    purified = made.purify(x, strength, rng[:])
    assert (purified.shape, purified.dtype, purified.device) == (x.shape, x.dtype, x.device)
    assert purified.min() >= 0
    assert purified.max() <= 1
    copies = made.copies(x, strength, rng[:])
    assert copies.shape == (IMAGES, made.votes, *x.shape[1:])
    assert made.join(torch.zeros(IMAGES, made.votes, 3)).shape == (IMAGES, 3)


@every
def test_double_precision_is_kept(name: str) -> None:
    made, (x, strength, rng) = purifier(name), images()
    try:
        purified = made.double().purify(x.double(), strength.double(), rng[:])
    finally:
        made.float()
    assert purified.dtype == torch.float64


@every
def test_the_layout_of_the_images_does_not_matter(name: str) -> None:
    made, (x, strength, rng) = purifier(name), images()
    expected = made.copies(x, strength, rng[:])
    for other in (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        torch.testing.assert_close(made.copies(other, strength, rng[:]), expected, rtol=0, atol=1e-4)


@every
def test_an_image_does_not_depend_on_the_others(name: str) -> None:
    made, (x, strength, rng) = purifier(name), images()
    whole = made.copies(x, strength, rng[:])
    for part in (torch.tensor([0, 1]), torch.tensor([5, 2]), torch.tensor([3])):
        alone = made.copies(x[part], strength[part], rng[part])
        torch.testing.assert_close(alone, whole[part], rtol=0, atol=1e-4)


@every
def test_the_stream_alone_decides(name: str) -> None:
    made, (x, strength, rng) = purifier(name), images()
    with global_generator_untouched():
        first = made.copies(x, strength, rng[:])
        again = made.copies(x, strength, rng[:])
    assert torch.equal(first, again)
    other = made.copies(x, strength, rng.fork("other"))
    assert torch.equal(first, other) != made.stochastic


@every
def test_more_strength_changes_more(name: str) -> None:
    made, (x, _, rng) = purifier(name), images()

    def change(strength: float) -> float:
        copies = made.copies(x, torch.full((IMAGES,), strength), rng[:])
        return float((copies - x.unsqueeze(1)).square().mean().sqrt())

    changes = [change(strength) for strength in (0.0, 0.25, 0.5, 0.75, 1.0)]
    short = name.rpartition("/")[2]
    assert (max(changes) == 0) == (short in CONTROLS)
    assert changes == sorted(changes)
    assert (changes[-1] > changes[0]) == (short not in CONTROLS | FIXED)


@every
def test_there_is_a_gradient_where_there_is_said_to_be_one(name: str) -> None:
    made, (x, strength, rng) = purifier(name), images()
    copies = made.copies(x.requires_grad_(), strength, rng[:])
    assert copies.requires_grad == made.differentiable
    if not made.differentiable:
        return
    weights = torch.randn(copies.shape, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad((copies * weights).sum(), x)
    assert slope.isfinite().all()
    assert slope.flatten(1).any(1).all(), "every image has one"


@pytest.mark.gpu
@every
def test_a_gpu_purifies_as_the_cpu_does(name: str) -> None:
    made, (x, strength, rng) = purifier(name), images()
    expected = made.copies(x, strength, rng[:])
    try:
        moved = made.cuda().copies(x.cuda(), strength.cuda(), rbmed.Stream(rng.seeds.cuda()))
    finally:
        made.cpu()
    assert moved.is_cuda
    torch.testing.assert_close(moved.cpu(), expected, rtol=0, atol=1e-3)
