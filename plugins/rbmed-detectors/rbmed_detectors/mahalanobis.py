"""Mahalanobis distance of an image's features to those of clean images."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.features import FeatureDetector, learned
from robustbench_med.errors import BadParameter


class Mahalanobis(FeatureDetector):
    """Smallest squared Mahalanobis distance to a class mean (Lee et al. 2018, arXiv:1807.03888), 0 or more.

    As in the paper, the features of each class are Gaussian with one tied covariance. Left out: the paper's
    perturbation of the input and its logistic regression over several layers, which is trained on attacked images.
    Here, only the features before the last layers are used, the covariance is shrunk because a client may have fewer
    images than features, and the classes are those that the client has. Ma et al. (2019, arXiv:1907.10456) found
    detectors on deep features to be near perfect on medical images, with classifiers trained on attacked images.
    """

    class Params(rbmed.Params):
        shrinkage: float | None = Field(
            None,
            ge=0,
            le=1,
            description="Weight of the spherical covariance; none: as Ledoit & Wolf (2004) estimate it.",
        )

    multi_label = "no"  # it is fitted class by class
    means: Tensor
    whiten: Tensor

    def build(self, channels: int, size: int) -> None:
        """Register the buffers that `fit` fills."""
        # In double precision: the inverse of a covariance spans many orders of magnitude, and states are stored in half
        # precision otherwise.
        self.register_buffer("means", torch.zeros(0, 0, dtype=torch.float64))
        self.register_buffer("whiten", torch.zeros(0, 0, dtype=torch.float64))

    def fit(self, split: rbmed.Split, system: rbmed.System, job: rbmed.TrainJob) -> dict[str, float]:
        """Estimate the class means and the tied covariance of the client's images.

        Raises:
            BadParameter: the covariance is singular.
            NotDefined: the classifier offers no features.
        """
        features = self.embed_all(split.images, system, job).double()
        classes, label = torch.unique(split.labels.to(features.device), return_inverse=True)
        member = torch.nn.functional.one_hot(label, len(classes)).to(features.dtype)
        self.means = (member.T @ features) / member.sum(0)[:, None]
        centred = features - self.means[label]
        shrinkage = ledoit_wolf(centred) if self.params.shrinkage is None else self.params.shrinkage
        factor, failed = torch.linalg.cholesky_ex(shrunk(centred, shrinkage))
        if failed:
            small = "it needs more images: leave small clients out (min_patients of the data set)"
            raise BadParameter(
                f"detector mahalanobis: the covariance of {len(features)} images with shrinkage={shrinkage:g} is "
                f"singular; {'raise shrinkage' if shrinkage < 1 else small}"
            )
        # Rows of whiten @ (f - mean) are uncorrelated, of variance 1: their squares add up to the distance.
        identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        self.whiten = torch.linalg.solve_triangular(factor, identity, upper=False)
        return {"images": len(features), "classes": len(classes), "shrinkage": float(shrinkage)}

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """Squared distance to the nearest class mean, float32 (N,), differentiable in ``x``.

        Raises:
            WeightsError: it has not been fitted.
            NotDefined: the classifier offers no features.
        """
        whiten = learned(self.whiten, "mahalanobis")
        offsets = system.classifier.embed(x).double().unsqueeze(1) - self.means
        return (offsets @ whiten.T).square().sum(-1).amin(1).float()


def shrunk(centred: Tensor, shrinkage: float) -> Tensor:
    """(1 - s) S + s tr(S) / F * I, with S the covariance of centred features (N, F); (F, F)."""
    covariance = centred.T @ centred / len(centred)
    spherical = torch.eye(len(covariance), dtype=centred.dtype, device=centred.device) * covariance.diagonal().mean()
    return (1 - shrinkage) * covariance + shrinkage * spherical


def ledoit_wolf(centred: Tensor) -> float:
    """The shrinkage of least expected squared error, in [0, 1], for centred features (N, F); Ledoit & Wolf (2004)."""
    count, width = centred.shape
    covariance = centred.T @ centred / count
    mean = covariance.diagonal().mean()
    spread = covariance.square().sum() - width * mean.square()  # squared distance of S from the spherical one
    noise = centred.square().sum(1).square().mean() - covariance.square().sum()  # N times the error of S
    return float((noise / count / spread).clamp(0, 1)) if spread > 0 else 1.0
