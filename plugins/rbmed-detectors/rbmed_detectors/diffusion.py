"""Detectors that compare an image with what the system's own purifier makes of it. Nothing is learned."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.purified import answers, purified
from rbmed_detectors.scores import DIVERGENCES, Divergence


class PurifiedParams(rbmed.Params):
    """How the image is purified for the comparison."""

    strength: float = Field(0.5, ge=0, le=1, description="Strength of the purification.")
    copies: int = Field(1, ge=1, description="Purifications, each with its own noise, that are averaged.")


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


class DisagreementParams(PurifiedParams):
    """Parameters of the comparison."""

    divergence: Divergence = Field(
        "js",
        description="js: Jensen-Shannon divergence in nats, at most ln 2. l1: distance of the softmax, at most 2. "
        "flip: share of copies with another label, so that few scores are possible.",
    )


class Disagreement(rbmed.Detector):
    """How far the classifier's answers before and after purification are apart, averaged over the copies.

    The idea of MagNet (Meng & Chen 2017, arXiv:1705.09064) with the system's purifier in place of an autoencoder; what
    the purifier joins from several copies counts as one answer. Differentiable where the purifier is; for
    divergence=flip see `rbmed_detectors.scores.flip`.
    """

    Params = DisagreementParams

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The divergence of each image's answers, float32 (N,), 0 or more.

        Raises:
            BadParameter: the system has no purifier.
        """
        p = self.params
        there = answers(x, system, rng, p.copies, p.strength, "disagreement")
        here = system.classifier(x).unsqueeze(1).expand_as(there)
        return DIVERGENCES[p.divergence](here, there).mean(1).float()
