"""Detectors on the classifier's features, which are fitted on a client's own clean images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.autoencoder import RUNTIME
from robustbench_med.errors import BadParameter, WeightsError


class FeatureDetector(rbmed.Detector):
    """A detector on the classifier's features (`Classifier.embed`).

    It is fitted at each client, on the client's clean training images and classifier. Deterministic; differentiable.
    """

    stochastic = False
    needs = ("classifier",)

    @torch.no_grad()
    def embed_all(self, images: Tensor, system: rbmed.System, job: rbmed.TrainJob) -> Tensor:
        """Features of many images, float32 (N, F), on the job's device.

        Raises:
            NotDefined: the classifier offers no features.
        """
        return torch.cat([system.classifier.embed(part).float() for part in batches(images, job.device)])


def batches(images: Tensor, device: torch.device, size: int = 128) -> Iterator[Tensor]:
    """The images in parts of at most ``size``, on the device."""
    for start in range(0, len(images), size):
        yield images[start : start + size].to(device)


def chosen(total: int, most: int, seed: int) -> Tensor:
    """Sorted indices of at most ``most`` of ``total`` images: all, or a random subset that the seed determines."""
    if total <= most:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def learned(buffer: Tensor, name: str) -> Tensor:
    """The buffer, which `fit` has filled.

    Raises:
        WeightsError: it is empty.
    """
    if not len(buffer):
        raise WeightsError(f"detector {name} has not been fitted at this client; train it with `rbmed train`")
    return buffer


class NearestNeighbours(FeatureDetector):
    """Euclidean distance to the k-th nearest clean feature (Sun et al. 2022, arXiv:2204.06507), 0 or more.

    At most 2 with normalised features. The paper detects out-of-distribution images with it; for attacked medical
    images see Ma et al. (2019, arXiv:1907.10456).
    """

    class Params(rbmed.Params):
        k: int = Field(
            5,
            ge=1,
            **RUNTIME,
            description="Rank of the neighbour whose distance is the score; of fewer neighbours, the farthest.",
        )
        normalize: bool = Field(True, **RUNTIME, description="Scale features to length 1 first, as in the paper.")
        bank: int = Field(2000, ge=1, description="Training images of the client whose features are stored, at most.")

    features: Tensor

    def build(self, channels: int, size: int) -> None:
        """Register the buffers that `fit` fills."""
        self.register_buffer("features", torch.zeros(0, 0))

    def fit(self, split: rbmed.Split, system: rbmed.System, job: rbmed.TrainJob) -> dict[str, float]:
        """Store the features of at most ``bank`` of the client's images.

        Raises:
            NotDefined: the classifier offers no features.
        """
        rows = chosen(len(split), self.params.bank, rbmed.seed_of(job.seed, "knn"))
        self.features = self.embed_all(split.images[rows], system, job)
        return {"images": len(self.features)}

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """Distance to the k-th nearest feature, float32 (N,), differentiable in ``x``.

        Raises:
            WeightsError: it has not been fitted.
            NotDefined: the classifier offers no features.
        """
        bank, here = learned(self.features, "knn"), system.classifier.embed(x).float()
        if self.params.normalize:
            bank, here = F.normalize(bank, dim=1), F.normalize(here, dim=1)
        # Through matrix products, distances of near neighbours would cancel to rounding errors.
        distances = torch.cdist(here, bank, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.topk(min(self.params.k, len(bank)), largest=False).values[:, -1]


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
                f"detector mahalanobis: the covariance of {rbmed.plural(len(features), 'image')} with "
                f"shrinkage={shrinkage:g} is "
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
