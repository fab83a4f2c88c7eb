"""MedFedPure's detector: a masked autoencoder of clean images, and three scores."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.autoencoder import RUNTIME, Rebuilder, RebuildParams
from rbmed_detectors.scores import BOUNDARY, jensen_shannon, purified_logits


class MAEDetectorParams(RebuildParams):
    """Parameters of the score, besides those of the autoencoder."""

    score: Literal["reconstruction", "consistency", "combined"] = Field(
        "reconstruction",
        **RUNTIME,
        description="reconstruction: squared error of the masked reconstruction (published). consistency: divergence "
        "of the classifier's predictions on the image and on a reference copy. combined: consistency + weight * "
        "reconstruction.",
    )
    pool: Literal["mean", "max", "topk"] = Field(
        "mean",
        **RUNTIME,
        description="How the errors of the patches are pooled: mean (published), max, or the mean of the largest.",
    )
    topk: float = Field(
        0.1, gt=0, le=1, **RUNTIME, description="Share of patches that pool=topk averages; at least 1 patch."
    )
    reference: Literal["reconstruction", "purified"] = Field(
        "purified", **RUNTIME, description="Copy that the consistency score compares the image with."
    )
    references: int = Field(
        1, ge=1, **RUNTIME, description="Purified copies, each with its own noise, that consistency averages."
    )
    consistency_strength: float = Field(0.5, ge=0, le=1, **RUNTIME, description="Strength of the copy's purification.")
    weight: float = Field(
        10.0, ge=0, **RUNTIME, description="Weight of the reconstruction error in the combined score."
    )


class MAEDetector(Rebuilder, rbmed.Detector):
    """Masked autoencoder (He et al. 2022, arXiv:2111.06377) of clean images as a detector (Karami et al. 2025).

    Scores are 0 or more: a mean squared error in pixels (at most about 1), a divergence in nats (at most ln 2), or
    their weighted sum. Differentiable in the image; with pool=max and topk, through the selected patches.
    """

    @property
    def multi_label(self) -> Literal["yes", "named"]:  # type: ignore[override]
        """The scores that compare answers need two classes or more."""
        return "yes" if self.params.score == "reconstruction" else "named"

    Params = MAEDetectorParams

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Only a purified reference makes the score random."""
        return bool(self.params.score != "reconstruction" and self.params.reference == "purified")

    @property
    def reach(self) -> float | None:
        """That of the consistency at the decision boundary; a reconstruction has none."""
        return BOUNDARY["js"] if self.params.score == "consistency" else None

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The score named by the parameter ``score``, float32 (N,), differentiable in ``x``.

        Raises:
            BadParameter: a purified copy is needed, and the system has no purifier.
        """
        p: MAEDetectorParams = self.params
        if p.score == "consistency" and p.reference == "purified":
            return self._consistency(x, None, system, rng)
        rebuilt = self.reconstruct(x)
        if p.score == "consistency":
            return self._consistency(x, rebuilt, system, rng)
        error = pooled(self.patch_errors(x, rebuilt), p.pool, p.topk)
        if p.score == "reconstruction":
            return error
        return self._consistency(x, rebuilt, system, rng) + p.weight * error

    def error_map(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """Squared error of the reconstruction, mean over the channels, (N, H, W), for every score."""
        return (x - self.reconstruct(x)).square().mean(1)

    def _consistency(self, x: Tensor, rebuilt: Tensor | None, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """Mean Jensen-Shannon divergence of the predictions on each image and on its reference copies, (N,)."""
        p = self.params
        if p.reference == "purified":
            copies = purified_logits(
                x, system, rng, p.references, p.consistency_strength, "mae with reference=purified"
            )
        else:
            assert rebuilt is not None
            copies = system.classifier(rebuilt.clamp(0, 1)).unsqueeze(1)
        return jensen_shannon(system.classifier(x).unsqueeze(1).expand_as(copies), copies).mean(1)


def pooled(errors: Tensor, pool: Literal["mean", "max", "topk"], topk: float) -> Tensor:
    """One error per image, (N,), from the errors of its patches (N, L)."""
    if pool == "mean":
        return errors.mean(1)
    count = 1 if pool == "max" else max(1, round(topk * errors.shape[1]))
    return errors.topk(count, 1).values.mean(1)
