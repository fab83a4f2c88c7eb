"""Values and gradients of a target model with respect to images, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustbench_med import TargetModel
from robustbench_med.errors import UsageError

#: Logits of every draw (N, D, K) -> one value per image (N,).
Value = Callable[[Tensor], Tensor]
NO_GRADIENT = "the target model gives no gradient to the images; use an attack that needs scores or decisions"


def forward(model: TargetModel, x: Tensor, value: Value, also: Value | None = None) -> tuple[Tensor, Tensor]:
    """Mean logits (N, K) of images ``x`` and ``value`` (N,) of the logits of every draw, without a graph.

    ``also``: a function of the images, (N,), that is added.
    """
    with torch.no_grad():
        draws = model.each(x)
        return _mean(draws), value(draws) if also is None else value(draws) + also(x)


def differentiate(
    model: TargetModel, x: Tensor, value: Value, also: Value | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean logits (N, K), ``value`` (N,) of every draw's, and the gradient of its sum to ``x``, from one pass.

    Parameters receive no gradient, and neither the module's mode nor a random generator is touched. An entry of the
    gradient that is not finite becomes 0, so that one undefined pixel does not turn the whole image into NaN.
    ``also``: a function of the images, (N,), that is added.

    Raises:
        UsageError: the target model's output does not depend on ``x`` differentiably.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        draws = model.each(x)
        values = value(draws) if also is None else value(draws) + also(x)
        gradient = torch.autograd.grad(values.sum(), x, allow_unused=True)[0] if values.requires_grad else None
    if gradient is None:
        raise UsageError(NO_GRADIENT)
    return _mean(draws.detach()), values.detach(), gradient.nan_to_num_(0, 0, 0)


def _mean(draws: Tensor) -> Tensor:
    """The mean over the draws, (N, D, K) -> (N, K); of one draw itself."""
    return draws.squeeze(1) if draws.shape[1] == 1 else draws.mean(1)


def differences(model: TargetModel, x: Tensor, y: Tensor, against: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the classes ``against``, (N, M), minus the true one, and their gradients, (N, M, C, H, W).

    Costs one forward pass and M backward passes; raises `UsageError` as `differentiate` does.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        gaps = logits.gather(1, against) - logits.gather(1, y[:, None])
    last, gradients = against.shape[1] - 1, []
    for column in range(last + 1):
        gap, gradient = gaps[:, column].sum(), None
        if gap.requires_grad:
            gradient = torch.autograd.grad(gap, x, retain_graph=column < last, allow_unused=True)[0]
        if gradient is None:
            raise UsageError(NO_GRADIENT)
        gradients.append(gradient.nan_to_num_(0, 0, 0))
    return gaps.detach(), torch.stack(gradients, 1)
