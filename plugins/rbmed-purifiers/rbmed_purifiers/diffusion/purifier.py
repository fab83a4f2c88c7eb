"""Base classes of the diffusion purifiers: the network, its training, times, batches and denoising."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import DiffusionParams, RangeParams
from rbmed_purifiers.diffusion.schedule import Schedule
from rbmed_purifiers.diffusion.unet import NoiseLearner, build_unet, fold, unfold
from rbmed_purifiers.diffusion.walk import Move, walk

#: Least number of images denoised together, suited to a CPU's caches and to a GPU; at most twice as many minus one.
CHUNK = {"cpu": 16, "cuda": 256}
#: Bytes of activations that are stored for the gradient; where there would be more, moves are computed again.
STORED = {"cpu": 2 * 2**30, "cuda": 16 * 2**30}
#: Feature maps of the network's first level that a move stores, for each unit of width and each block (measured).
MAPS = 60


class DiffusionPurifier(rbmed.Purifier):
    """Noises an image to a diffusion time that follows the strength, then denoises it (Nie et al. 2022, 2205.07460).

    A sampler implements `moves`, the denoising steps. Every image has its own time; all noise is a function of the
    image's stream, so a result depends neither on the batch nor on how often a move is computed.
    """

    Params = DiffusionParams
    family = "unet"
    net: nn.Module

    def build(self, channels: int, size: int) -> None:
        """Create the U-Net; ``size`` must be a multiple of ``fold * 2 ** (levels - 1)``."""
        self.net = build_unet(channels, size, self.params, self.spec_name or "diffusion")
        self.schedule = Schedule()

    def learner(self, system: rbmed.System) -> rbmed.Learner:
        """Noise prediction; all samplers of the family share the weights."""
        return NoiseLearner(self.net, self.schedule, self.params)

    @abstractmethod
    def times(self, strength: Tensor) -> Tensor:
        """The diffusion time of each image at the start, int64 (N,), 1 or more."""

    @abstractmethod
    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps from times ``self.times(strength)``, highest first, to clean images."""

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """Noise the images, then make the sampler's moves.

        Differentiable in ``x``, not in ``strength`` (times are whole numbers). The result is clamped to [0, 1].
        """
        p, start = self.params, self.times(strength)
        image = fold(x.to(next(self.net.parameters(), x).dtype), p.fold)
        z = self.schedule.diffuse(image, start, F.pixel_unshuffle(rng.normal(tuple(x.shape)), p.fold))
        # Images of similar times are denoised together, at least CHUNK of them: in smaller chunks, last bits differ.
        order = start.argsort(descending=True, stable=True)
        done = torch.cat(
            [
                self._sample(z[rows], image[rows], strength[rows], rng[rows], len(x))
                for rows in order.tensor_split(max(1, len(x) // _of(CHUNK, x.device)))
            ]
        )
        return unfold(done[order.argsort()], p.fold).clamp(0, 1).to(x.dtype)

    def _sample(self, z: Tensor, image: Tensor, strength: Tensor, rng: rbmed.Stream, total: int) -> Tensor:
        """Denoise a chunk of the ``total`` images; if the work is small, activations are stored, which is faster."""
        moves = self.moves(strength, rng)
        maps = MAPS * self.params.width * self.params.blocks
        size = len(moves) * total * maps * z[0, 0].numel() * z.element_size()
        large = size > _of(STORED, z.device)
        return walk(z, image, moves, large and not any(weight.requires_grad for weight in self.net.parameters()))

    def epsilon(self, z: Tensor, t: Tensor) -> Tensor:
        """The noise that the U-Net predicts in ``z`` at times ``t``, in the type of ``z``."""
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.params.precision == "bfloat16"):
            predicted: Tensor = self.net(z, t).sample
        return predicted.to(z.dtype)

    def strided(self, start: Tensor, steps: int) -> list[Move]:
        """Deterministic DDIM steps of even length from times ``start`` to 0."""

        def move(now: Tensor, then: Tensor) -> Move:
            return lambda z, _: self.schedule.jump(z, self.epsilon(z, now), now, then)

        return [move(now, then) for now, then in pairwise(grid(start, steps))]

    @torch.no_grad()
    def pictures(self, x: Tensor, rng: rbmed.Stream) -> dict[str, Tensor]:
        """Images, and their noised and purified versions at strengths 0, 0.5 and 1."""
        rows = {"image": x}
        for share in (0.0, 0.5, 1.0):
            strength = torch.full((len(x),), share, device=x.device)
            start = self.times(strength)
            noise = F.pixel_unshuffle(rng[:].normal(tuple(x.shape)), self.params.fold)
            noised = self.schedule.diffuse(fold(x, self.params.fold), start, noise)
            rows[f"noised t={int(start[0])}"] = unfold(noised, self.params.fold)
            rows[f"denoised t={int(start[0])}"] = self.purify(x, strength, rng[:])
        return rows


class RangePurifier(DiffusionPurifier):
    """The diffusion time follows the strength from t_min to t_max, as published for MedFedPure."""

    Params = RangeParams

    def times(self, strength: Tensor) -> Tensor:
        """The diffusion time of each image, int64 (N,): t_min + (t_max - t_min) * strength, rounded."""
        p = self.params
        times: Tensor = p.t_min + (p.t_max - p.t_min) * strength.detach().clamp(0, 1)
        return times.round().long()


def grid(start: Tensor, steps: int) -> list[Tensor]:
    """Times from ``start`` down to 0 in ``steps`` steps of even length, rounded down: int64 (N,) each."""
    return [start * left // steps for left in range(steps, -1, -1)]


def fresh(rng: rbmed.Stream, moment: int, like: Tensor) -> Tensor:
    """Standard normal noise like ``like`` (N, ...), the same for the same ``moment`` >= 1 of the streams."""
    return rng.moment(moment).normal(tuple(like.shape)).to(like.dtype)


def _of(limit: dict[str, int], device: torch.device) -> int:
    return limit[device.type if device.type in limit else "cuda"]
