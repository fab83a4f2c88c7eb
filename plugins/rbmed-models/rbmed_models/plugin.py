"""Specs of this distribution; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from robustbench_med import ModelSpec, StrategySpec, hookimpl

MODELS = (
    # Those that are written here.
    ModelSpec(
        name="resnet",
        target="rbmed_models.resnet:ResNetModel",
        summary="Residual network of basic blocks, sized for small images (default: ResNet-10, width 32)",
        title="ResNet",
        paper="Deep Residual Learning for Image Recognition",
        venue="CVPR 2016",
        reference="He et al. 2016, arXiv:1512.03385",
    ),
    ModelSpec(
        name="moe",
        target="rbmed_models.moe:MoEModel",
        summary="Mixture of expert heads on a shared ResNet, with personal gates (MedFedPure's classifier)",
        title="Mixture of experts",
        paper="MedFedPure: A Medical Federated Framework with MAE-based Detection and Diffusion "
        "Purification for Inference-Time Attacks",
        venue="arXiv 2025",
        reference="Karami et al. 2025, arXiv:2511.11625",
    ),
    # Those from elsewhere.
    ModelSpec(
        name="pytorch",
        target="rbmed_models.foreign.python_file:PyTorchFile",
        revision=2,
        summary="A module from a function in a Python file: --model net.py:build",
        title="Own PyTorch module",
    ),
    ModelSpec(
        name="timm",
        target="rbmed_models.foreign.libraries:Timm",
        revision=2,
        summary="An architecture of timm: timm:resnet18",
        title="timm model",
        names="timm/models",
        reference="Wightman, PyTorch image models, doi:10.5281/zenodo.4414861",
    ),
    ModelSpec(
        name="torchvision",
        target="rbmed_models.foreign.libraries:TorchVision",
        revision=2,
        summary="An architecture of torchvision: torchvision:resnet18",
        title="torchvision model",
        names="torchvision/models",
        reference="TorchVision maintainers, github.com/pytorch/vision (2016)",
    ),
    ModelSpec(
        name="torchscript",
        target="rbmed_models.foreign.torchscript:TorchScript",
        revision=2,
        summary="A TorchScript program with its weights: --model scripted.pt",
        title="TorchScript program",
    ),
    ModelSpec(
        name="hf",
        target="rbmed_models.foreign.hugging_face:HuggingFace",
        revision=2,
        summary="An image classifier of Hugging Face transformers: hf:FOLDER or hf:OWNER/NAME",
        title="Hugging Face model",
        reference="Wolf et al. 2020, arXiv:1910.03771",
    ),
    ModelSpec(
        name="object",
        target="rbmed_models.foreign.module_object:ModuleObject",
        revision=2,
        summary="A torch module that a Python program hands over: evaluate(model=net)",
        title="Own torch module",
    ),
)


@hookimpl
def rbmed_models() -> Iterable[ModelSpec]:
    """The architectures."""
    return MODELS


@hookimpl
def rbmed_strategies() -> Iterator[StrategySpec]:
    """The strategy for models that come with weights."""
    yield StrategySpec(
        name="pretrained",
        target="rbmed_models.foreign.pretrained:Pretrained",
        summary="No training: every client has the model as built",
        title="Pretrained",
    )
