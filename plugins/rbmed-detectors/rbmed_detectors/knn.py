"""Distance of an image's features to the nearest ones of clean images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.autoencoder import RUNTIME
from rbmed_detectors.features import FeatureDetector, chosen, learned


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
