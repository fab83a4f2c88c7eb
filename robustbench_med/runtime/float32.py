"""How exact float32 is: CUDA rounds its products to TF32, 10 bits, unless it is told otherwise."""

from __future__ import annotations

import torch


def set_float32(tf32: bool = False) -> None:
    """Compute in full float32, or let CUDA use TF32 in convolutions and matrix products; for the whole process."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
