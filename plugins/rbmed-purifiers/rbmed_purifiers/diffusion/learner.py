"""The learner of the U-Net: prediction of the noise in diffused clean images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import DiffusionParams
from rbmed_purifiers.diffusion.schedule import Schedule
from rbmed_purifiers.diffusion.unet import fold


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
