"""What this distribution offers; reading it imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import ModelSpec, hookimpl


@hookimpl
def rbmed_models() -> Iterator[ModelSpec]:
    """The architectures."""
    yield ModelSpec(
        name="resnet",
        target="rbmed_models.resnet:ResNetModel",
        summary="Residual network of basic blocks, sized for small images (default: ResNet-10, width 32)",
        reference="He et al. 2016, arXiv:1512.03385",
    )
    yield ModelSpec(
        name="moe",
        target="rbmed_models.moe:MoEModel",
        summary="Mixture of expert heads on a shared ResNet, with personal gates (MedFedPure's classifier)",
        reference="Karami et al. 2025, arXiv:2511.11625",
    )
