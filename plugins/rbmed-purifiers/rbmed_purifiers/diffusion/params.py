"""Parameters of the diffusion purifiers.

All samplers of the family share the parameters that the weights depend on, by name and default; the other parameters
are marked as runtime, so that one training serves all samplers.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import pydantic
from pydantic import Field

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.schedule import TIMES

#: Marks a parameter that the trained weights do not depend on.
RUNTIME: dict[str, Any] = {"json_schema_extra": {"runtime": True}}
T_MIN = "Diffusion time at strength 0, which still purifies."
T_MAX = "Diffusion time at strength 1."
STEPS = "Denoising steps."


class DiffusionParams(rbmed.Params):
    """Parameters of the network, its training and its arithmetic."""

    width: int = Field(32, ge=8, multiple_of=8, description="Channels of the first level; each level doubles them.")
    levels: int = Field(3, ge=1, le=5, description="Resolution levels of the U-Net.")
    blocks: int = Field(1, ge=1, description="Residual blocks per level on the way down (one more on the way up).")
    fold: int = Field(2, ge=1, description="Fold squares of fold x fold pixels into channels; 2 is 4 x cheaper than 1.")
    train_t_max: int = Field(200, ge=1, le=TIMES, description="Largest diffusion time trained for.")
    training: str = Field(
        # For brainsim, four clients of 1,500 images: 5,076 steps in all. Fewer images need more epochs.
        "fedavg:rounds=9,local_epochs=3,batch_size=32,lr=6e-4,autocast=true",
        description="Strategy that trains the U-Net over the clients; local:... trains one per client.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        **RUNTIME,
        description="Arithmetic of purification; bfloat16 is faster, but results then depend on the batch size: "
        "pixels differ by up to 0.002.",
    )


class RangeParams(DiffusionParams):
    """A sampler whose diffusion time follows the strength."""

    t_min: int = Field(50, ge=1, le=TIMES, **RUNTIME, description=T_MIN)
    t_max: int = Field(150, ge=1, le=TIMES, **RUNTIME, description=T_MAX)

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.t_min <= self.t_max <= self.train_t_max:
            raise ValueError(f"need t_min <= t_max <= train_t_max, not {self.t_min}, {self.t_max}, {self.train_t_max}")
        return self


class StepsParams(RangeParams):
    """A sampler that goes from there to the clean image in a number of steps."""

    steps: int = Field(2, ge=1, **RUNTIME, description=STEPS)

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.steps > self.t_min:
            raise ValueError(f"steps={self.steps} denoising steps do not fit into t_min={self.t_min} diffusion times")
        return self
