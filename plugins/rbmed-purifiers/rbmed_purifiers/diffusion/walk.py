"""Apply a sampler's moves, with a gradient whose memory hardly grows with their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

#: (noised images now, input images) -> noised images then; both folded, (N, C, H, W). A move must give the same result
#: when it is computed again: its noise is a function of the stream, and drawing it does not advance the stream.
Move = Callable[[Tensor, Tensor], Tensor]


def walk(z: Tensor, image: Tensor, moves: Sequence[Move], recompute: bool) -> Tensor:
    """The result of ``moves``, applied to ``z`` one after the other.

    Args:
        z: noised images.
        image: the input images.
        moves: the steps of a sampler.
        recompute: for a gradient, compute each move again instead of storing activations. The gradient is then that
            of ``z`` and ``image`` only, not of weights.
    """
    if recompute and torch.is_grad_enabled() and (z.requires_grad or image.requires_grad):
        walked: Tensor = _Recomputed.apply(z, image, moves)
        return walked
    for move in moves:
        z = move(z, image)
    return z


class _Recomputed(torch.autograd.Function):
    """All moves of a sampler; only their inputs are stored, and a move's graph is built in the backward pass.

    As gradient checkpointing (Chen et al. 2016, arXiv:1604.06174) of each move. `torch.utils.checkpoint` leaves the
    inputs scattered between freed blocks, which the C library then cannot reuse: a process grew by a fifth of a step's
    memory with each step. Here the inputs are in one block.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, image: Tensor, moves: Sequence[Move]) -> Tensor:
        """The last output."""
        inputs = z.new_empty(len(moves), *z.shape)
        for at, move in enumerate(moves):
            inputs[at] = z
            z = move(z, image)
        ctx.save_for_backward(inputs, image)
        ctx.moves = moves
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """The gradients of the first input and of the images."""
        inputs, image = ctx.saved_tensors
        image = image.detach().requires_grad_()
        total: Tensor | None = None
        for z, move in reversed(list(zip(inputs, ctx.moves, strict=True))):
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                after = move(z, image)
            grad, direct = torch.autograd.grad(after, (z, image), grad, allow_unused=True)
            if direct is not None:
                total = direct if total is None else total + direct
        return grad, total, None
