"""Values and gradients of a surface with respect to images, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbench_med.errors import UsageError

Value = Callable[[Tensor], Tensor]


def forward(surface: nn.Module, x: Tensor, value: Value) -> tuple[Tensor, Tensor]:
    """Logits (N, K) of images ``x`` and ``value(logits)`` (N,), without a graph."""
    with torch.no_grad():
        logits = surface(x)
        return logits, value(logits)


def differentiate(surface: nn.Module, x: Tensor, value: Value) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K), ``value(logits)`` (N,) and the gradient of its sum with respect to ``x``, from one pass.

    Parameters receive no gradient, and neither the module's mode nor a random generator is touched. An entry of the
    gradient that is not finite becomes 0, so that one undefined pixel does not turn the whole image into NaN.

    Raises:
        UsageError: the surface's output does not depend on ``x`` differentiably.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = surface(x)
        values = value(logits)
        gradient = torch.autograd.grad(values.sum(), x, allow_unused=True)[0] if values.requires_grad else None
    if gradient is None:
        raise UsageError("the surface gives no gradient to the images; use an attack that needs scores or decisions")
    return logits.detach(), values.detach(), gradient.nan_to_num_(0, 0, 0)
