"""The U-Net and the schedule are those of diffusers to the bit, and need no diffusers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from rbmed_purifiers.diffusion.schedule import BETA_FIRST, BETA_LAST, TIMES, Schedule
from rbmed_purifiers.diffusion.unet import UNet

#: channels, widths, blocks
SIZES = [(4, [32, 64, 128], 1), (1, [16, 32], 2), (12, [8], 1), (3, [8, 16, 32, 64], 2)]
LOADING = """
import sys
from rbmed_purifiers.diffusion.samplers import DDIMPurifier

DDIMPurifier().build(1, 64)
assert "diffusers" not in sys.modules and "torch._dynamo" not in sys.modules
"""


def both(channels: int, widths: list[int], blocks: int) -> tuple[UNet, UNet2DModel]:
    """Ours and theirs, each from the same seed."""
    torch.manual_seed(0)
    ours = UNet(channels, widths, blocks)
    torch.manual_seed(0)
    theirs = UNet2DModel(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(widths),
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
        layers_per_block=blocks,
        norm_num_groups=8,
        add_attention=False,
    )
    return ours, theirs


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_weights_have_the_names_the_order_and_the_first_values_of_diffusers(size: tuple[int, list[int], int]) -> None:
    ours, theirs = (list(net.state_dict().items()) for net in both(*size))
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["channels-first", "last"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_answers_and_their_gradients_are_those_of_diffusers(
    size: tuple[int, list[int], int], layout: torch.memory_format
) -> None:
    torch.manual_seed(1)
    images, times = torch.randn(5, size[0], 16, 16), torch.tensor([1, 7, 50, 123, 1000])
    found: list[tuple[Tensor, ...]] = []
    for net, answer in zip(both(*size), (lambda made: made, lambda made: made.sample), strict=True):
        net = net.eval().requires_grad_(False).to(memory_format=layout)
        x = images.clone().requires_grad_()
        noise = answer(net(x, times))
        found.append((noise, *torch.autograd.grad(noise.square().sum(), x)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("images", [3, 64])
def test_a_step_of_training_is_that_of_diffusers(images: int, autocast: bool) -> None:
    torch.manual_seed(1)
    x, t = torch.randn(images, 4, 16, 16), torch.arange(1, images + 1)
    found: list[list[Tensor]] = []
    for net, answer in zip(both(4, [16, 32], 1), (lambda made: made, lambda made: made.sample), strict=True):
        net = net.train().to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            answer(net(x, t)).float().square().mean().backward()
        found.append([weight.grad for weight in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_diffusers_is_not_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_schedule_is_that_of_diffusers_to_the_bit() -> None:
    theirs = DDPMScheduler(TIMES, beta_start=BETA_FIRST, beta_end=BETA_LAST, beta_schedule="linear").alphas_cumprod
    assert torch.equal(Schedule().alpha_bar, torch.cat([torch.ones(1), theirs]))
