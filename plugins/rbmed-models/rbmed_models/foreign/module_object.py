"""A module that a Python program hands over."""

from __future__ import annotations

import copy

from pydantic import Field
from torch import nn

import robustbench_med as rbmed
from rbmed_models.foreign.model import ForeignModel
from rbmed_models.foreign.params import ForeignParams


class ModuleObject(ForeignModel):
    """A torch module with its weights, in this process: ``evaluate(model=net)``."""

    trained = True

    class Params(ForeignParams):
        source: str = Field(description="Its key, which evaluate() makes from its weights and code.")

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """A copy of the module, on the CPU."""
        return copy.deepcopy(rbmed.held(self.params.source)).cpu()
