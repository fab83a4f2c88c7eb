"""A bridge from diffused adversarial images to clean ones."""

from __future__ import annotations

import copy
from typing import Literal, Self

import pydantic
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.samplers import DDIMParams, DDIMPurifier
from rbmed_purifiers.diffusion.schedule import TIMES, Schedule
from rbmed_purifiers.diffusion.unet import NoiseLearner, fold, unfold


class BridgeParams(DDIMParams):
    """Parameters of `BridgePurifier`."""

    train_t_min: int = Field(25, ge=1, le=TIMES, description="Smallest time that purification starts from in training.")
    eps: float = Field(8 / 255, gt=0, le=1, description="Largest Linf size of the perturbations trained against.")
    attack_steps: int = Field(3, ge=1, description="Steps of the attack (PGD) on each training image.")
    attacked: Literal["classifier", "purifier"] = Field(
        "classifier", description="What is attacked: the classifier, or the classifier behind a one-step purification."
    )
    guide: float = Field(
        0.0, ge=0, description="Weight of a second loss: cross-entropy of the classifier behind one-step purification."
    )

    @pydantic.model_validator(mode="after")
    def _trained(self) -> Self:
        if self.t_min < self.train_t_min:
            raise ValueError(f"t_min={self.t_min} is below train_t_min={self.train_t_min}")
        return self


class BridgePurifier(DDIMPurifier):
    """A denoiser that treats the perturbation as part of the noise, as ADBM (Li et al. 2024, 2408.00315) aims to.

    Purification noises an attacked image x + d to its time n, with white noise w::

        z_n = sqrt(a_n) (x + d) + sqrt(1 - a_n) w = sqrt(a_n) x + sqrt(1 - a_n) e,    e = w + d sqrt(a_n / (1 - a_n))

    The right side is a clean image with noise e. A deterministic DDIM step with the true e keeps this form: the images
    z_t = sqrt(a_t) x + sqrt(1 - a_t) e for t = n..0 are a path that starts in the noised attacked image and ends in
    the clean one. So the network learns to predict e, at times t drawn from 1..n on that path, with n drawn
    from train_t_min..train_t_max. For d = 0 this is the plain diffusion model.

    The perturbations d are those of PGD (Madry et al. 2018) on the clients' shared classifier, away from its own
    prediction on the clean image, so no labels are needed; sizes are drawn per image from [0, eps], so that clean
    images are kept. ``attacked=purifier`` attacks through the network in training, and ``guide`` adds the classifier's
    loss; both follow ADDT (Liu et al. 2024, 2404.14309), which trains on perturbations that survive purification.
    """

    Params = BridgeParams
    family = ""
    needs = ("classifier",)
    multi_label = "no"  # its training attacks a classifier's one answer

    def learner(self, system: rbmed.System) -> rbmed.Learner:
        """Prediction of noise and perturbation, against attacks on the system's classifier."""
        return BridgeLearner(self.net, self.schedule, self.params, system.classifier)


class BridgeLearner(NoiseLearner):
    """The loss that `BridgePurifier` describes."""

    params: BridgeParams

    def __init__(self, net: nn.Module, schedule: Schedule, params: BridgeParams, classifier: rbmed.Classifier) -> None:
        super().__init__(net, schedule, params)
        # In a tuple, so that the classifier is no part of this module's state.
        self._frozen = (copy.deepcopy(classifier).eval().requires_grad_(False),)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of images in [0, 1] (N, C, H, W); labels are not used."""
        p, clean = self.params, fold(x, self.params.fold)
        start = torch.randint(p.train_t_min, p.train_t_max + 1, (len(x),), device=x.device)
        t = 1 + (torch.rand(len(x), device=x.device) * start).long()
        white = torch.randn_like(clean)
        with torch.no_grad():
            predictions = self._classifier(x).argmax(1)
        attacked = fold(self._attack(x, predictions, start, white), p.fold)
        signal, noise = self.schedule.levels(start)
        target = white + signal / noise * (attacked - clean)
        z = self.schedule.diffuse(clean, t, target)
        predicted = self.net(z, t).sample.float()
        loss = F.mse_loss(predicted, target)
        if p.guide:
            purified = unfold(self.schedule.clean(z, t, predicted), p.fold).clamp(0, 1)
            loss = loss + p.guide * F.cross_entropy(self._classifier(purified), predictions)
        return loss

    def _attack(self, x: Tensor, predictions: Tensor, start: Tensor, white: Tensor) -> Tensor:
        """Images near ``x`` with other predictions than ``predictions``: PGD with a random start."""
        size = self.params.eps * torch.rand(len(x), 1, 1, 1, device=x.device)
        # Steps a little longer than needed to cross the ball (Madry et al. 2018).
        stride = 2.5 / self.params.attack_steps * size
        near = (x + size * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        for _ in range(self.params.attack_steps):
            near = near.detach().requires_grad_()
            with torch.enable_grad():
                harm = F.cross_entropy(self._logits(near, start, white), predictions, reduction="sum")
            (gradient,) = torch.autograd.grad(harm, near)
            moved = near.detach() + stride * gradient.sign()
            near = torch.clamp(moved, x - size, x + size).clamp(0, 1)
        return near

    def _logits(self, x: Tensor, start: Tensor, white: Tensor) -> Tensor:
        """Logits of the attacked system: the classifier, or purifier and classifier."""
        if self.params.attacked == "purifier":
            z = self.schedule.diffuse(fold(x, self.params.fold), start, white)
            x = unfold(self.schedule.clean(z, start, self.net(z, start).sample), self.params.fold).clamp(0, 1)
        return self._classifier(x)

    def _classifier(self, x: Tensor) -> Tensor:
        logits: Tensor = self._frozen[0].to(x.device)(x)
        return logits
