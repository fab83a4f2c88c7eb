"""A TorchScript program."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from rbmed_models.foreign.code import told
from rbmed_models.foreign.model import ForeignModel
from rbmed_models.foreign.params import ForeignParams
from robustbench_med.errors import WeightsError


class TorchScript(ForeignModel):
    """A TorchScript program with its weights: ``--model scripted.pt``."""

    trained = True

    class Params(ForeignParams):
        source: str = Field(description="File that torch.jit.save wrote; its code is run.")

        def files(self) -> Mapping[str, Path]:
            """The program, and other weights if any."""
            return {"": Path(self.source), **super().files()}

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The program, on the CPU."""
        file = self.params.source
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch advises its authors against it, not its users
                load: Any = torch.jit.load
                made: nn.Module = load(file, map_location="cpu")
        except (RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{file} is no TorchScript program ({told(error, 120)}); if it holds weights, name their model: "
                f"--model net.py:build --weights {file}"
            ) from None
        return made
