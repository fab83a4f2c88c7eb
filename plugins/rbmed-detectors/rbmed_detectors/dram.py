"""DRAM's detector: a two-sample test between the autoencoder's losses on an image and on clean images."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.autoencoder import RUNTIME, MAEParams, MAEPart, visible_count
from rbmed_detectors.features import batches, chosen, learned
from rbmed_detectors.vit import independent

#: Masks with which clean losses are learned, and the most that a score can use.
MASKS = 16
#: Clean images of a client whose losses are kept, at most.
CLEAN = 1000


class DRAMDetector(MAEPart, rbmed.Detector):
    """Kolmogorov-Smirnov test on losses of a masked autoencoder (Tsai et al. 2023, arXiv:2303.12848).

    As in the paper, an image is masked several times, and the losses are compared with those of clean images by a
    Kolmogorov-Smirnov test. Different from the paper: the masks are fixed and the same for every image, so that a score
    is deterministic and does not depend on the batch; the autoencoder is the small one of this package, trained on the
    clients' images rather than on ImageNet; clean losses are those of the client's own training images; the score is
    the statistic instead of a p-value (for fixed sample sizes one is a monotone function of the other), and the
    pipeline sets the threshold; the paper's repair by reversal vectors is left out. ``statistic=mean`` is not from the
    paper.

    Scores: ks in (0, 1]; mean unbounded, about 0 on clean images.
    """

    class Params(MAEParams):
        draws: int = Field(8, ge=1, le=MASKS, **RUNTIME, description="Masks, and so losses, per image.")
        statistic: Literal["ks", "mean"] = Field(
            "ks",
            **RUNTIME,
            description="ks: two-sample Kolmogorov-Smirnov statistic (published). mean: mean over the masks of the "
            "loss in standard deviations of the clean losses under that mask; one-sided.",
        )

    stochastic = False
    visible: Tensor
    share: Tensor
    clean: Tensor

    def build(self, channels: int, size: int) -> None:
        """Create the autoencoder, the masks and an empty sample of clean losses; errors as `MAEPart.build`."""
        super().build(channels, size)
        seen = visible_count(self.net.patches, self.params.mask_ratio)
        visible, hidden = independent(self.net.patches, MASKS, seen)
        self.register_buffer("visible", visible, persistent=False)
        self.register_buffer("share", hidden / hidden.sum(1, keepdim=True), persistent=False)
        self.register_buffer("clean", torch.zeros(0, MASKS))

    def losses(self, x: Tensor, masks: int) -> Tensor:
        """Mean squared error of the hidden pixels under each of the first masks, (N, masks)."""
        patches = self.net.split(x)
        error = (self.predict(patches, self.visible[:masks]) - patches.unsqueeze(1)).square().mean(-1)
        return (error * self.share[:masks]).sum(-1)

    @torch.no_grad()
    def fit(self, split: rbmed.Split, system: rbmed.System, job: rbmed.TrainJob) -> dict[str, float]:
        """Store the losses of at most `CLEAN` of the client's images; ``system`` is not used."""
        images = split.images[chosen(len(split), CLEAN, rbmed.seed_of(job.seed, "dram"))]
        self.clean = torch.cat([self.losses(part, MASKS) for part in batches(images, job.device, 32)])
        return {"images": len(images), "mean_loss": float(self.clean.mean()), "std_loss": float(self.clean.std())}

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The statistic of each image, float32 (N,), differentiable in ``x`` (see `kolmogorov_smirnov`).

        Raises:
            WeightsError: no clean losses have been learned.
        """
        draws = self.params.draws
        clean = learned(self.clean, "dram")[:, :draws]
        losses = self.losses(x, draws).float()
        if self.params.statistic == "ks":
            return kolmogorov_smirnov(losses, clean.flatten())
        spread = clean.std(0, correction=0).clamp_min(torch.finfo(clean.dtype).tiny)
        return ((losses - clean.mean(0)) / spread).mean(1)


def kolmogorov_smirnov(values: Tensor, sample: Tensor) -> Tensor:
    """Two-sided two-sample Kolmogorov-Smirnov statistic of each row of ``values`` against one sample.

    It is a step function of the values. For its gradient, a Cauchy distribution with the sample's median and standard
    deviation replaces the empirical one. This gradient is nowhere 0, not even outside the sample.

    Args:
        values: (N, M).
        sample: (n,).

    Returns:
        The largest difference of the empirical distribution functions, (N,), in (0, 1].
    """
    values, ordered = values.sort(1).values, sample.sort().values
    count = values.shape[1]
    middle = ordered[len(ordered) // 2]
    scale = sample.std(correction=0).clamp_min(torch.finfo(sample.dtype).tiny)
    smooth = torch.atan((values - middle) / scale) / math.pi
    straight = smooth - smooth.detach()

    def below(right: bool) -> Tensor:
        """Share of the sample below the values; ``right`` counts equal ones."""
        return torch.searchsorted(ordered, values.detach().contiguous(), right=right) / len(ordered) + straight

    rank = torch.arange(1, count + 1, device=values.device) / count
    above = (rank - below(True)).amax(1)
    under = (below(False) - (rank - 1 / count)).amax(1)
    return torch.maximum(above, under)
