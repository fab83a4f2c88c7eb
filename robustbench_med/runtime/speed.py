"""Speed settings of the attack's passes, which scoring does not use, and how exact float32 is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["float32", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: Scale of gradients in half precision, against underflow.
FP16_SCALE = 1024.0


@dataclass(frozen=True)
class Speed:
    """Settings of an attack's passes.

    Attributes:
        precision: of matrix products and convolutions; anything but float32 is confirmed in float32 (see `measure`).
        compile: modules are compiled by torch.
        channels_last: weights and activations have their channels last in memory.
        prefetch: the next chunk is copied to the GPU during the work on one.
    """

    precision: Precision = "float32"
    compile: bool = False
    channels_last: bool = True
    prefetch: bool = False

    @property
    def exact(self) -> bool:
        """Whether the passes equal those of the deployed system, up to the order of sums."""
        return self.precision == "float32" and not self.compile

    @property
    def layout(self) -> torch.memory_format:
        """Memory format of weights and activations."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def scale(self) -> float:
        """Factor on gradients inside the model."""
        return FP16_SCALE if self.precision == "fp16" else 1.0

    def passes(self, device: torch.device) -> AbstractContextManager[object]:
        """The context of forward passes."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, dtype=DTYPES[self.precision])


def set_float32(tf32: bool = False) -> None:
    """Compute in full float32, or let CUDA use TF32 (10 bits) in convolutions and matrix products; for the process."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
