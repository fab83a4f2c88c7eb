"""Detectors that compare an image with its purification by the system's purifier. Nothing is learned."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.scores import BOUNDARY, DIVERGENCES, Divergence, purified, purified_logits


class PurifiedParams(rbmed.Params):
    """Purification of the image for the comparison."""

    strength: float = Field(0.5, ge=0, le=1, description="Strength of the purification.")
    copies: int = Field(
        1, ge=1, description="Purifications, each with its own noise, over which the score is averaged."
    )


class DiffusionError(rbmed.Detector):
    """Mean squared error between an image and its purified copies, 0 to 1.

    With a diffusion purifier this is the reconstruction error of Wang et al. (2023, arXiv:2303.09295) and Graham et al.
    (2023, arXiv:2211.07740), there for generated images and for images of other kinds; without the latter's perceptual
    distance (LPIPS). Differentiable where the purifier is.
    """

    Params = PurifiedParams

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The error of each image, float32 (N,).

        Raises:
            BadParameter: the system has no purifier.
        """
        return self.error_map(x, system, rng).flatten(1).mean(1).float()

    def error_map(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The squared error of each pixel, mean over channels and copies, (N, H, W); errors as `score`."""
        p = self.params
        copies = purified(x, system, rng, p.copies, p.strength, "diffusion-error")
        return (copies - x[:, None, None]).square().mean((1, 2, 3))


class Disagreement(rbmed.Detector):
    """Divergence of the classifier's predictions before and after purification, averaged over the copies.

    The idea of MagNet (Meng & Chen 2017, arXiv:1705.09064) with the system's purifier in place of an autoencoder; the
    copies that a purifier votes over count as one prediction. Differentiable where the purifier is; for
    divergence=flip see `rbmed_detectors.scores.flip`.
    """

    class Params(PurifiedParams):
        divergence: Divergence = Field(
            "js",
            description="js: Jensen-Shannon divergence in nats, at most ln 2. l1: distance of the softmax, at most 2. "
            "flip: share of copies with another label, so that few scores are possible.",
        )

    multi_label = "named"

    @property
    def reach(self) -> float | None:
        """That of the divergence at the decision boundary."""
        return BOUNDARY[self.params.divergence]

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The divergence of each image's predictions, float32 (N,), 0 or more.

        Raises:
            BadParameter: the system has no purifier.
        """
        p = self.params
        copies = purified_logits(x, system, rng, p.copies, p.strength, "disagreement")
        logits = system.classifier(x).unsqueeze(1).expand_as(copies)
        return DIVERGENCES[p.divergence](logits, copies).mean(1).float()
