"""Specs of this distribution; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import ModelSpec, StrategySpec, hookimpl


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
    yield ModelSpec(
        name="pytorch",
        target="rbmed_models.foreign:PyTorchFile",
        summary="A module from a function in a Python file: --model net.py:build",
    )
    yield ModelSpec(
        name="timm",
        target="rbmed_models.foreign:Timm",
        summary="An architecture of timm: timm:resnet18",
        reference="Wightman, PyTorch image models, doi:10.5281/zenodo.4414861",
    )
    yield ModelSpec(
        name="torchvision",
        target="rbmed_models.foreign:TorchVision",
        summary="An architecture of torchvision: torchvision:resnet18",
        reference="TorchVision maintainers, github.com/pytorch/vision (2016)",
    )


@hookimpl
def rbmed_strategies() -> Iterator[StrategySpec]:
    """The strategy for models that come with weights."""
    yield StrategySpec(
        name="pretrained",
        target="rbmed_models.foreign:Pretrained",
        summary="No training: every client has the model as built",
    )
