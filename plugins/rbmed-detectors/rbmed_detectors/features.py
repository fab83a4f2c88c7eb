"""Base class and helpers of the detectors that are fitted on a client's own images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.errors import WeightsError


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
