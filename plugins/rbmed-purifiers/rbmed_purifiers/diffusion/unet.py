"""The network: a diffusers U-Net on images folded by pixel-unshuffle.

A small image has few details that need full resolution (Hoogeboom et al. 2023, 2301.11093).
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import DiffusionParams
from rbmed_purifiers.diffusion.schedule import Schedule
from robustbench_med.errors import BadParameter

#: Packages whose ``__init__`` imports every network of diffusers, which takes as long as all else at a start.
ALL_NETWORKS = ("diffusers.models.unets", "diffusers.models.transformers")
#: Marks the attention of diffusers, which this network has not, and takes a third of a start; diffusers does without.
COMPILER = "torch._dynamo"


def build_unet(channels: int, size: int, params: DiffusionParams, name: str) -> nn.Module:
    """An untrained U-Net: ``net(z, t).sample`` predicts the noise in folded images ``z`` at times ``t``.

    Args:
        channels: of the images.
        size: side of the images.
        params: width, levels, blocks and fold.
        name: of the purifier, for messages.

    Raises:
        BadParameter: the side is not a multiple of ``fold * 2 ** (levels - 1)``.
    """
    unit = params.fold * 2 ** (params.levels - 1)
    if size % unit:
        raise BadParameter(
            f"purifier {name}: fold={params.fold} and levels={params.levels} need an image side that is a multiple of "
            f"{unit}, not {size} px"
        )
    net: nn.Module = _unet_class()(
        sample_size=size // params.fold,
        in_channels=channels * params.fold**2,
        out_channels=channels * params.fold**2,
        block_out_channels=tuple(params.width * 2**level for level in range(params.levels)),
        down_block_types=("DownBlock2D",) * params.levels,
        up_block_types=("UpBlock2D",) * params.levels,
        layers_per_block=params.blocks,
        norm_num_groups=8,
        add_attention=False,
    )
    return net


def _unet_class() -> Any:
    """diffusers' UNet2DModel, without the networks beside it and without torch's compiler.

    Imported when a network is built: a plan needs none.
    """
    loaded: dict[str, Any] = sys.modules
    hidden = [name for name in (COMPILER, *ALL_NETWORKS) if name not in loaded]  # in this order
    for name in hidden:
        loaded[name] = None if name == COMPILER else _without_init(name)
    try:
        from diffusers.models.unets.unet_2d import UNet2DModel
    finally:
        for name in hidden:
            loaded.pop(name)  # whoever asks next gets the whole package
    return UNet2DModel


def _without_init(name: str) -> ModuleType:
    """A package that finds its files, and whose __init__ has not run."""
    spec = find_spec(name)
    assert spec is not None
    return module_from_spec(spec)


def fold(x: Tensor, side: int) -> Tensor:
    """Images in [0, 1] as the network's input: in [-1, 1], squares of ``side`` x ``side`` pixels as channels."""
    return F.pixel_unshuffle(x * 2 - 1, side)


def unfold(z: Tensor, side: int) -> Tensor:
    """The inverse of `fold`, not clamped."""
    return F.pixel_shuffle(z, side).add(1).div(2)


class NoiseLearner(rbmed.Learner):
    """Mean squared error of the predicted noise at times drawn from 1..train_t_max (Ho et al. 2020, eq. 14).

    Later times are left out, because purification does not use them.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, params: DiffusionParams) -> None:
        super().__init__()
        self.net, self.schedule, self.params = net, schedule, params

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of images in [0, 1] (N, C, H, W); labels are not used."""
        clean = fold(x, self.params.fold)
        t = torch.randint(1, self.params.train_t_max + 1, (len(x),), device=x.device)
        eps = torch.randn_like(clean)
        return F.mse_loss(self.net(self.schedule.diffuse(clean, t, eps), t).sample.float(), eps)
