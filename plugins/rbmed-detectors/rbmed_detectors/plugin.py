"""What this distribution offers; reading it imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import DetectorSpec, hookimpl


@hookimpl
def rbmed_detectors() -> Iterator[DetectorSpec]:
    """The detectors."""
    yield DetectorSpec(
        name="mae",
        target="rbmed_detectors.mae:MAEDetector",
        summary="Masked autoencoder: reconstruction error, or how far the classifier disagrees with itself on a copy",
        reference="He et al. 2022, arXiv:2111.06377; Karami et al. 2025, arXiv:2511.11625; Meng & Chen 2017",
    )
    yield DetectorSpec(
        name="random",
        target="rbmed_detectors.control:RandomDetector",
        summary="Control: a uniform random score that does not look at the image",
    )
