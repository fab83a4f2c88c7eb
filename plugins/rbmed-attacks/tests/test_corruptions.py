"""Corruptions: severity 0 changes nothing, more severity changes more, and chance is each image's own."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.corruptions.families import FAMILIES, corrupted, jpeg
from robustbench_med import Budget, Stream, TargetModel, ThreatModel
from robustbench_med.errors import BadParameter, NotDefined

N, SIZE = 6, 32


def images(channels: int = 3) -> Tensor:
    """Smooth images with an edge, black and white included."""
    rows = torch.linspace(0, 1, SIZE)
    smooth = 0.5 + 0.3 * torch.sin(7 * rows[:, None] + torch.arange(N).view(N, 1, 1, 1)) * torch.cos(5 * rows)
    x = smooth.repeat(1, channels, 1, 1) * torch.tensor([1.0, 0.8, 0.6])[:channels].view(1, channels, 1, 1)
    x[:, :, 8:20, 10:18] = 1
    x[:, :, :4] = 0
    return x.contiguous()


def streams(ids: range = range(N)) -> Stream:
    return Stream.named("attack", 0, torch.tensor(list(ids), dtype=torch.int64))


@pytest.mark.parametrize("name", FAMILIES)
def test_severity_0_changes_no_bit_and_little_severity_little(name: str) -> None:
    x = images()
    assert torch.equal(corrupted(x, name, 0, streams()), x)
    # Rounding to coefficients and to whole pixels starts at once, and so do kernels with a soft edge.
    if name not in ("jpeg", "pixelate", "defocus-blur", "motion-blur"):
        assert float((corrupted(x, name, 1e-4, streams()) - x).abs().mean()) < 2e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_more_severity_changes_more_inside_the_range(name: str) -> None:
    x = images()
    change = []
    for severity in (1, 2, 3, 4, 5):
        made = corrupted(x, name, severity, streams())
        assert made.shape == x.shape
        assert made.isfinite().all()
        assert 0 <= float(made.min()) <= float(made.max()) <= 1
        change.append(float((made - x).square().mean().sqrt()))
    assert change[0] > 0
    if name == "pixelate":  # large pixels may happen to lie along the edges
        assert change[-1] > change[0]
    else:
        assert change == sorted(change), change


@pytest.mark.parametrize("name", FAMILIES)
def test_an_image_is_corrupted_alike_in_any_batch(name: str) -> None:
    x = images()
    whole = corrupted(x, name, 3, streams())
    part = corrupted(x[2:4], name, 3, streams(range(2, 4)))
    torch.testing.assert_close(whole[2:4], part, rtol=0, atol=1e-5)
    assert torch.equal(whole, corrupted(x, name, 3, streams()))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "saturate"])
def test_grey_images_are_corrupted_too(name: str) -> None:
    assert corrupted(images(1), name, 5, streams()).shape == (N, 1, SIZE, SIZE)


def test_colour_needs_colours() -> None:
    with pytest.raises(NotDefined, match="saturate needs images of three colours"):
        corrupted(images(1), "saturate", 3, streams())


@pytest.mark.parametrize("quality", [10, 40, 75, 95])
def test_jpeg_is_that_of_libjpeg_up_to_rounding(quality: int) -> None:
    x = images(1)[:1]
    buffer = io.BytesIO()
    Image.fromarray((x[0, 0] * 255).round().byte().numpy(), "L").save(buffer, "jpeg", quality=quality)
    theirs = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).float() / 255
    ours = jpeg((x * 255).round() / 255, 100 - quality)[0, 0].clamp(0, 1)
    assert float((ours - theirs).abs().mean()) < 1.5 / 255


def test_noise_has_the_stated_size() -> None:
    grey = torch.full((N, 1, 64, 64), 0.5)
    for severity, sigma in enumerate(FAMILIES["gaussian-noise"][1], 1):
        noise = corrupted(grey, "gaussian-noise", severity, streams()) - 0.5
        assert float(noise.std()) == pytest.approx(sigma, rel=0.02)
    shot = corrupted(grey, "shot-noise", 3, streams()) - 0.5
    assert float(shot.std()) == pytest.approx(math.sqrt(0.5 * 0.012), rel=0.05)
    hit = corrupted(grey, "impulse-noise", 5, streams()) != 0.5
    assert float(hit.float().mean()) == pytest.approx(0.1, rel=0.1)


def test_blur_keeps_the_mean_of_an_even_image() -> None:
    grey = torch.full((N, 1, SIZE, SIZE), 0.4)
    for name in ("defocus-blur", "motion-blur", "zoom-blur", "pixelate"):
        torch.testing.assert_close(corrupted(grey, name, 5, streams()), grey)


def test_the_attack_asks_nothing_and_has_its_severity_as_threat() -> None:
    made = rbmed.load_component("attack", "corruption:jpeg,severity=4")
    assert (made.own_threat, made.access) == (("corruption", 4.0), "none")
    x, y = images(1), torch.zeros(N, dtype=torch.int64)

    class Silent(TargetModel):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("asked")

    adv = made.run(Silent(), x, y, ThreatModel("corruption", 4), Budget(), streams())
    assert torch.equal(adv, corrupted(x, "jpeg", 4, streams()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corruption:jpg", "unknown corruption 'jpg'; valid: gaussian-noise"),
        ("corruption:jpeg,severity=0", "severity='0'"),
        ("corruption:jpeg,severity=6", "severity='6'"),
        ("corruption:jpeg,severity=2.5", "severity='2.5'"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        rbmed.load_component("attack", text)
