"""Bit-depth reduction."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from rbmed_purifiers.classical.filter import DecreasingParams, Filter, per_image


class BitDepth(Filter):
    """Round pixels to ``2 ** bits`` equally spaced values (Xu et al. 2018, feature squeezing, 1704.01155).

    Bits fall linearly from ``bits_max`` to ``bits_min`` with strength, rounded to a whole number. The true derivative
    is 0 wherever it exists, so by default the purifier is not differentiable.
    """

    class Params(DecreasingParams):
        quantity: ClassVar[str] = "bits"

        bits_max: int = Field(8, ge=1, le=16, description="Bits per channel at strength 0; 8 keeps 8-bit images.")
        bits_min: int = Field(3, ge=1, le=16, description="Bits per channel at strength 1.")
        gradient: Literal["none", "straight"] = Field(
            "none",
            description="none: no gradient, so the rungs bpda and query attack it; straight: straight-through gradient "
            "of rounding, as bpda assumes.",
        )

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.differentiable = self.params.gradient == "straight"

    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Quantised images."""
        steps = per_image(2 ** self.params.at(strength) - 1)
        rounded = (x.detach() * steps).round() / steps
        return rounded + (x - x.detach()) if self.differentiable else rounded
