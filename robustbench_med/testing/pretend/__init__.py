"""A CUDA device without a GPU: tensors that behave as on a device of their own, and report what would be slow there."""

from __future__ import annotations

from robustbench_med.testing.pretend.device import PretendDevice

__all__ = ["PretendDevice"]
