"""Specs of this distribution; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from robustbench_med import DetectorSpec, PurifierSpec, hookimpl

DETECTORS = (
    DetectorSpec(
        name="mae",
        target="rbmed_detectors.mae:MAEDetector",
        summary="Masked autoencoder: reconstruction error, or divergence of the predictions on image and copy",
        reference="He et al. 2022, arXiv:2111.06377; Karami et al. 2025, arXiv:2511.11625; Meng & Chen 2017",
    ),
    DetectorSpec(
        name="dram",
        target="rbmed_detectors.dram:DRAMDetector",
        summary="Masked autoencoder: Kolmogorov-Smirnov test of an image's losses against those of clean images",
        reference="Tsai et al. 2023, arXiv:2303.12848",
    ),
    DetectorSpec(
        name="feature-squeezing",
        target="rbmed_detectors.squeezing:FeatureSqueezing",
        summary="Change of the prediction when bit depth is reduced or the image is smoothed",
        reference="Xu et al. 2018, arXiv:1704.01155",
    ),
    DetectorSpec(
        name="mahalanobis",
        target="rbmed_detectors.mahalanobis:Mahalanobis",
        summary="Mahalanobis distance of the classifier's features to the nearest class mean",
        reference="Lee et al. 2018, arXiv:1807.03888; Ma et al. 2019, arXiv:1907.10456",
    ),
    DetectorSpec(
        name="knn",
        target="rbmed_detectors.knn:NearestNeighbours",
        summary="Distance of the classifier's features to the k-th nearest ones of clean images",
        reference="Sun et al. 2022, arXiv:2204.06507; Ma et al. 2019, arXiv:1907.10456",
    ),
    DetectorSpec(
        name="energy",
        target="rbmed_detectors.confidence:Energy",
        summary="Free energy of the classifier's logits",
        reference="Liu et al. 2020, arXiv:2010.03759",
    ),
    DetectorSpec(
        name="max-softmax",
        target="rbmed_detectors.confidence:MaxSoftmax",
        summary="One minus the classifier's confidence",
        reference="Hendrycks & Gimpel 2017, arXiv:1610.02136",
    ),
    DetectorSpec(
        name="diffusion-error",
        target="rbmed_detectors.diffusion:DiffusionError",
        summary="Mean squared error between the image and its purification",
        reference="Graham et al. 2023, arXiv:2211.07740; Wang et al. 2023, arXiv:2303.09295",
    ),
    DetectorSpec(
        name="disagreement",
        target="rbmed_detectors.diffusion:Disagreement",
        summary="Divergence of the classifier's predictions before and after purification",
        reference="Meng & Chen 2017, arXiv:1705.09064",
    ),
    DetectorSpec(
        name="random",
        target="rbmed_detectors.control:RandomDetector",
        summary="Control: a uniform random score",
    ),
)


@hookimpl
def rbmed_detectors() -> Iterable[DetectorSpec]:
    """The detectors."""
    return DETECTORS


@hookimpl
def rbmed_purifiers() -> Iterator[PurifierSpec]:
    """The purifiers."""
    yield PurifierSpec(
        name="mae-repair",
        target="rbmed_detectors.repair:MAERepair",
        summary="Masked autoencoder: patches with the largest reconstruction error are replaced",
        reference="He et al. 2022, arXiv:2111.06377; Meng & Chen 2017, arXiv:1705.09064",
    )
