"""MedFedPure's detector: a masked autoencoder of clean images, and three scores that can be read off it."""

from __future__ import annotations

import math
from typing import Any, Literal

import pydantic
import torch
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.scores import jensen_shannon
from rbmed_detectors.vit import MaskedAutoencoder
from robustbench_med import checkpoint
from robustbench_med.errors import BadParameter, RbmedError

#: Marks a parameter that the trained weights do not depend on.
RUNTIME: dict[str, Any] = {"json_schema_extra": {"runtime": True}}


class MAEParams(rbmed.Params):
    """Parameters of the autoencoder, its training and the score."""

    patch: int = Field(8, ge=1, description="Side of a patch in pixels; must divide the image side.")
    width: int = Field(128, ge=4, multiple_of=4, description="Encoder width.")
    depth: int = Field(4, ge=1, description="Encoder blocks.")
    decoder_width: int = Field(96, ge=4, multiple_of=4, description="Decoder width.")
    decoder_depth: int = Field(2, ge=1, description="Decoder blocks.")
    heads: int = Field(4, ge=1, description="Attention heads; must divide both widths.")
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="Share of patches hidden in training.")
    epochs: int = Field(25, ge=1, description="Passes over the training images.")
    batch_size: int = Field(64, ge=1, description="Training images per step.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate (AdamW, warm-up, then cosine to 0).")
    score: Literal["reconstruction", "consistency", "combined"] = Field(
        "reconstruction",
        **RUNTIME,
        description="reconstruction: squared error of the masked reconstruction (published). consistency: divergence "
        "of the classifier's answers on the image and on a reference copy. combined: consistency + weight * "
        "reconstruction.",
    )
    score_mask_ratio: float = Field(
        0.75, gt=0, lt=1, **RUNTIME, description="Share of patches hidden in each scoring pass."
    )
    passes: int = Field(
        4, ge=1, **RUNTIME, description="Scoring passes; together they must hide every patch at least once."
    )
    reference: Literal["reconstruction", "purified"] = Field(
        "purified", **RUNTIME, description="Copy that the consistency score compares the image with."
    )
    references: int = Field(
        1, ge=1, **RUNTIME, description="Purified copies, each with its own noise, that consistency averages."
    )
    consistency_strength: float = Field(
        0.5, ge=0, le=1, **RUNTIME, description="Strength with which the copy is purified."
    )
    weight: float = Field(
        10.0, ge=0, **RUNTIME, description="Weight of the reconstruction error in the combined score."
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> MAEParams:
        if self.passes * self.score_mask_ratio < 1:
            raise ValueError(
                f"passes={self.passes} with score_mask_ratio={self.score_mask_ratio} leave patches that are never "
                f"hidden; use at least {math.ceil(1 / self.score_mask_ratio)} passes"
            )
        if self.width % self.heads or self.decoder_width % self.heads:
            widths = f"width={self.width} and decoder_width={self.decoder_width}"
            raise ValueError(f"heads={self.heads} must divide {widths}")
        return self


class MAEDetector(rbmed.Detector):
    """Masked autoencoder (He et al. 2022) trained on clean images.

    Every patch of a scored image is predicted while hidden: the mask patterns are fixed, complementary, and the same
    for every image, so a score depends neither on chance nor on the batch.
    """

    Params = MAEParams
    net: MaskedAutoencoder
    visible: Tensor
    share: Tensor

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Only a purified reference brings noise into the score."""
        return bool(self.params.score != "reconstruction" and self.params.reference == "purified")

    def build(self, channels: int, size: int) -> None:
        """Create the autoencoder; ``size`` must be a multiple of the patch."""
        p = self.params
        if size % p.patch or size < 2 * p.patch:
            raise BadParameter(f"detector mae: patch={p.patch} must divide the image side, {size} px, at least twice")
        self.net = MaskedAutoencoder(
            channels, size, p.patch, p.width, p.depth, p.decoder_width, p.decoder_depth, p.heads
        )  # fmt: skip
        visible, hidden = patterns(self.net.patches, p.passes, p.score_mask_ratio)
        self.register_buffer("visible", visible, persistent=False)
        # (passes, L): how much each pass contributes to the reconstruction of a patch.
        self.register_buffer("share", hidden / hidden.sum(0), persistent=False)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) rebuilt patch by patch, each patch from passes that hid it (their mean)."""
        patches, passes = self.net.split(x), len(self.visible)
        repeated = patches.repeat_interleave(passes, 0)
        predicted = self.net(repeated, self.visible.repeat(len(x), 1)).unflatten(0, (len(x), passes))
        return self.net.join((predicted * self.share.unsqueeze(-1)).sum(1), x.shape[-1])

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The score named by the parameter ``score``, float32 (N,), differentiable in ``x``.

        Raises:
            BadParameter: a purified copy is asked for in a system without purifier.
        """
        p = self.params
        if p.score == "consistency" and p.reference == "purified":
            return self._consistency(x, self._purified(x, system, rng), system)
        rebuilt = self.reconstruct(x)
        error = (x - rebuilt).square().flatten(1).mean(1)
        if p.score == "reconstruction":
            return error
        copies = self._purified(x, system, rng) if p.reference == "purified" else rebuilt.clamp(0, 1)
        consistency = self._consistency(x, copies, system)
        return consistency if p.score == "consistency" else consistency + p.weight * error

    def _purified(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """``references`` purified copies of each image, image-major: (N * references, C, H, W)."""
        if system.purifier is None:
            raise BadParameter("detector mae: reference=purified needs a defense with a purifier; use reconstruction")
        copies = self.params.references
        strength = x.new_full((len(x) * copies,), self.params.consistency_strength)
        return system.purifier.purify(x.repeat_interleave(copies, 0), strength, rng.repeat(copies))

    @staticmethod
    def _consistency(x: Tensor, copies: Tensor, system: rbmed.System) -> Tensor:
        """Mean Jensen-Shannon divergence between the answers on each image and on its copies, (N,)."""
        there = system.classifier(copies).unflatten(0, (len(x), -1))
        here = system.classifier(x).unsqueeze(1).expand_as(there)
        return jensen_shannon(here, there).mean(1)

    def fit(self, images: Tensor, job: rbmed.TrainJob) -> dict[str, float]:
        """Minimise the squared error of hidden patches of clean images; resumes at the last finished epoch."""
        p, net = self.params, self.to(job.device).net.train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=p.lr, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
        file = None if job.checkpoints is None else job.checkpoints / "mae.safetensors"
        run: dict[str, Any] = {"params": p.model_dump(mode="json"), "seed": job.seed, "images": list(images.shape)}
        facts = {} if file is None else checkpoint.load(file, net, optimizer, run)
        first, loss = int(facts.get("epoch", 0)), float(facts.get("loss", math.nan))
        with job.progress.task("train mae", total=p.epochs) as task:
            task.advance(first)
            for epoch in range(first, p.epochs):
                loss = self._epoch(images, epoch, optimizer, job)
                if not math.isfinite(loss):
                    raise RbmedError(f"detector mae: training diverged in epoch {epoch + 1}; lower lr (now {p.lr:g})")
                if file is not None:
                    checkpoint.save(file, net, optimizer, {**run, "epoch": epoch + 1, "loss": loss})
                task.advance(note=f"loss {loss:.4f}")
        net.eval()
        with torch.no_grad():
            sample = images[:256].to(job.device)
            error = (sample - self.reconstruct(sample)).square().mean()
        return {"loss": loss, "reconstruction_error": float(error), "pixel_variance": float(sample.var())}

    def _epoch(self, images: Tensor, epoch: int, optimizer: torch.optim.Optimizer, job: rbmed.TrainJob) -> float:
        """One pass over the images; return its mean loss."""
        p, net = self.params, self.net
        # Seeded by the epoch, not carried on: a resumed training then draws the same masks as an uninterrupted one.
        chance = torch.Generator().manual_seed(rbmed.seed_of(job.seed, "mae", epoch))
        order = torch.randperm(len(images), generator=chance)
        seen = max(1, round(net.patches * (1 - p.mask_ratio)))
        steps, total = math.ceil(len(images) / p.batch_size), 0.0
        for step in range(steps):
            rows = order[step * p.batch_size : (step + 1) * p.batch_size]
            at = (epoch + (step + 1) / steps) / p.epochs
            for group in optimizer.param_groups:
                group["lr"] = p.lr * min(1.0, at / 0.05) * 0.5 * (1 + math.cos(math.pi * at))
            patches = net.split(images[rows].to(job.device))
            shuffled = torch.rand(len(rows), net.patches, generator=chance).argsort(1).to(job.device)
            hidden = shuffled[:, seen:, None].expand(-1, -1, patches.shape[-1])
            predicted = net(patches, shuffled[:, :seen])
            loss = (predicted.gather(1, hidden) - patches.gather(1, hidden)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        return total / len(images)


def patterns(patches: int, passes: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Complementary mask patterns that together hide every patch equally often (within one).

    Each pass hides a window of one fixed shuffled circle of the patches; the windows start evenly spaced.

    Returns:
        Places of the visible patches, int64 (passes, V), and float32 (passes, L) with 1 where a patch is hidden.
    """
    hide = min(patches - 1, math.ceil(ratio * patches))
    circle = rbmed.Stream.named("mae-masks", 0, torch.zeros(1, dtype=torch.int64)).uniform((1, patches))[0].argsort()
    starts = torch.arange(passes) * patches // passes
    turned = circle[(starts[:, None] + torch.arange(patches)) % patches]
    hidden = torch.zeros(passes, patches).scatter(1, turned[:, :hide], 1.0)
    return turned[:, hide:], hidden
