"""The U-Net and its schedule beside those of diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from rbmed_purifiers.diffusion.network import UNet
from rbmed_purifiers.diffusion.schedule import BETA_FIRST, BETA_LAST, TIMES, Schedule


@pytest.mark.parametrize(("channels", "width", "levels", "blocks"), [(4, 32, 2, 1), (3, 16, 3, 2), (1, 8, 1, 1)])
@pytest.mark.parametrize("images", [3, 64])
def test_the_network_equals_that_of_diffusers(channels: int, width: int, levels: int, blocks: int, images: int) -> None:
    widths = tuple(width * 2**level for level in range(levels))
    torch.manual_seed(5)
    ours = UNet(channels, widths, blocks)
    torch.manual_seed(5)
    theirs = UNet2DModel(
        sample_size=16,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        layers_per_block=blocks,
        norm_num_groups=8,
        add_attention=False,
    )
    own, other = ours.state_dict(), theirs.state_dict()
    assert list(own) == list(other)  # an optimizer's state follows the order
    assert all(torch.equal(own[name], other[name]) for name in own)
    z, t = torch.randn(images, channels, 16, 16, requires_grad=True), torch.randint(1, TIMES, (images,))
    found, expected = ours(z, t), theirs(z, t).sample
    assert torch.equal(found, expected)
    slopes = [
        torch.autograd.grad(made.square().sum(), [z, *net.parameters()])
        for made, net in ((found, ours), (expected, theirs))
    ]
    assert all(map(torch.equal, *slopes))


def test_the_schedule_equals_that_of_diffusers() -> None:
    linear = DDPMScheduler(TIMES, beta_start=BETA_FIRST, beta_end=BETA_LAST, beta_schedule="linear")
    assert torch.equal(Schedule().alpha_bar[1:], linear.alphas_cumprod)
