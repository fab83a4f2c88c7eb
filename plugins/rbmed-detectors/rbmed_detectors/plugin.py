"""Specs of this distribution; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from robustbench_med import DetectorSpec, PurifierSpec, hookimpl

DETECTORS = (
    DetectorSpec(
        name="mae",
        target="rbmed_detectors.mae:MAEDetector",
        summary="Masked autoencoder: reconstruction error, or divergence of the predictions on image and copy",
        title="MAE detector",
        paper="Masked Autoencoders Are Scalable Vision Learners",
        venue="CVPR 2022",
        reference="He et al. 2022, arXiv:2111.06377; Karami et al. 2025, arXiv:2511.11625; Meng & Chen 2017",
    ),
    DetectorSpec(
        name="dram",
        target="rbmed_detectors.dram:DRAMDetector",
        summary="Masked autoencoder: Kolmogorov-Smirnov test of an image's losses against those of clean images",
        title="DRAM",
        paper="Test-time Detection and Repair of Adversarial Samples via Masked Autoencoder",
        venue="arXiv 2023",
        reference="Tsai et al. 2023, arXiv:2303.12848",
    ),
    DetectorSpec(
        name="feature-squeezing",
        target="rbmed_detectors.squeezing:FeatureSqueezing",
        summary="Change of the prediction when bit depth is reduced or the image is smoothed",
        title="Feature squeezing",
        paper="Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks",
        venue="NDSS 2018",
        reference="Xu et al. 2018, arXiv:1704.01155",
    ),
    DetectorSpec(
        name="mahalanobis",
        target="rbmed_detectors.features:Mahalanobis",
        summary="Mahalanobis distance of the classifier's features to the nearest class mean",
        title="Mahalanobis distance",
        paper="A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
        venue="NeurIPS 2018",
        reference="Lee et al. 2018, arXiv:1807.03888; Ma et al. 2019, arXiv:1907.10456",
    ),
    DetectorSpec(
        name="knn",
        target="rbmed_detectors.features:NearestNeighbours",
        summary="Distance of the classifier's features to the k-th nearest ones of clean images",
        title="Nearest neighbours",
        paper="Out-of-Distribution Detection with Deep Nearest Neighbors",
        venue="ICML 2022",
        reference="Sun et al. 2022, arXiv:2204.06507; Ma et al. 2019, arXiv:1907.10456",
    ),
    DetectorSpec(
        name="energy",
        target="rbmed_detectors.confidence:Energy",
        summary="Free energy of the classifier's logits",
        title="Energy score",
        paper="Energy-based Out-of-distribution Detection",
        venue="NeurIPS 2020",
        reference="Liu et al. 2020, arXiv:2010.03759",
    ),
    DetectorSpec(
        name="max-softmax",
        target="rbmed_detectors.confidence:MaxSoftmax",
        summary="One minus the classifier's confidence",
        title="Maximum softmax",
        paper="A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks",
        venue="ICLR 2017",
        reference="Hendrycks & Gimpel 2017, arXiv:1610.02136",
    ),
    DetectorSpec(
        name="diffusion-error",
        target="rbmed_detectors.diffusion:DiffusionError",
        summary="Mean squared error between the image and its purification",
        title="Diffusion error",
        paper="Denoising Diffusion Models for Out-of-Distribution Detection",
        venue="CVPR Workshops 2023",
        reference="Graham et al. 2023, arXiv:2211.07740; Wang et al. 2023, arXiv:2303.09295",
    ),
    DetectorSpec(
        name="disagreement",
        target="rbmed_detectors.diffusion:Disagreement",
        summary="Divergence of the classifier's predictions before and after purification",
        title="Disagreement after purification",
        paper="MagNet: A Two-Pronged Defense against Adversarial Examples",
        venue="CCS 2017",
        reference="Meng & Chen 2017, arXiv:1705.09064",
    ),
    DetectorSpec(
        name="random",
        target="rbmed_detectors.control:RandomDetector",
        summary="Control: a uniform random score",
        title="Random detector",
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
        title="MAE repair",
        paper="Masked Autoencoders Are Scalable Vision Learners",
        venue="CVPR 2022",
        reference="He et al. 2022, arXiv:2111.06377; Meng & Chen 2017, arXiv:1705.09064",
    )
