"""Bit-depth reduction."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.classical.filter import Filter, per_image


class BitDepthParams(rbmed.Params):
    """Parameters of the quantisation."""

    bits_max: int = Field(8, ge=1, le=16, description="Bits per channel at strength 0; 8 keeps 8-bit images.")
    bits_min: int = Field(3, ge=1, le=16, description="Bits per channel at strength 1.")
    gradient: Literal["none", "straight"] = Field(
        "none",
        description="none: no gradient, so bpda is the rung that attacks it; straight: rounding passes gradients on "
        "unchanged, which is what bpda does.",
    )

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> BitDepthParams:
        if self.bits_min > self.bits_max:
            raise ValueError(f"need bits_min <= bits_max, not {self.bits_min}, {self.bits_max}")
        return self


class BitDepth(Filter):
    """Round pixels to ``2 ** bits`` equally spaced values (Xu et al. 2018, feature squeezing, 1704.01155).

    Bits fall linearly from ``bits_max`` to ``bits_min`` with strength, rounded to a whole number. The true derivative
    is 0 wherever it exists, so by default the purifier is not differentiable.
    """

    Params = BitDepthParams

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.differentiable = self.params.gradient == "straight"

    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Quantised images."""
        p = self.params
        bits = (p.bits_max - (p.bits_max - p.bits_min) * strength.detach()).round()
        steps = per_image(2**bits - 1)
        rounded = (x.detach() * steps).round() / steps
        return rounded + (x - x.detach()) if self.differentiable else rounded
