"""Architectures of timm and of torchvision."""

from __future__ import annotations

from typing import Any

import timm
import torchvision
from pydantic import Field
from torch import nn

from rbmed_models.foreign.code import told
from rbmed_models.foreign.model import ForeignModel
from rbmed_models.foreign.params import ForeignParams
from robustbench_med.errors import BadParameter


class Timm(ForeignModel):
    """An architecture of timm, without its published weights: ``timm:resnet18``."""

    class Params(ForeignParams):
        source: str = Field("resnet18", description="Name in timm.list_models().")

        def label(self) -> str:
            """``timm:resnet18``."""
            return f"timm:{self.source}"

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module from timm; the image size is passed to architectures that take it."""
        name = self.params.source
        if not timm.is_model(name):
            raise BadParameter(f"timm has no model {name!r}; see timm.list_models()")
        options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
        try:
            return timm.create_model(name, img_size=size, **options)
        except TypeError as error:  # most architectures take images of any size and have no such option
            if "img_size" not in str(error):
                raise
            return timm.create_model(name, **options)


class TorchVision(ForeignModel):
    """An architecture of torchvision, without its published weights: ``torchvision:resnet18,channels=3``."""

    #: Heads that only a training uses; published weights have them.
    ignored = ("aux1.", "aux2.", "AuxLogits.")

    class Params(ForeignParams):
        source: str = Field("resnet18", description="Name in torchvision.models.list_models().")
        channels: int | None = Field(3, ge=1, description="Channels of its input: 3; grey images are repeated.")

        def label(self) -> str:
            """``torchvision:resnet18``."""
            return f"torchvision:{self.source}"

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module from torchvision; the image size is passed to architectures that take it."""
        name = self.params.source
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise BadParameter(f"torchvision has no classifier {name!r}; see torchvision.models.list_models()")
        options: dict[str, Any] = {"num_classes": num_classes}
        if name in ("googlenet", "inception_v3"):  # they answer with several heads in training
            options |= {"aux_logits": False, "init_weights": True}
        if name.startswith("vit_"):
            options["image_size"] = size
        elif name.startswith("maxvit"):
            options["input_size"] = (size, size)
        try:
            made: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise BadParameter(f"{self.params.label()} cannot be built for {size} px: {told(error)}") from error
        return made
