"""Limits what another library sees of the model, and restores what it changes in the process."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med import Stream, seed_of
from robustbench_med.errors import UsageError


class Opaque(nn.Module):
    """A model that gives logits and gradients with respect to images, and nothing else.

    Libraries switch modes, read ``next(model.parameters()).device`` and call ``backward()``, which would leave
    gradients in the classifier's weights. Here they get an empty parameter on the right device, no submodule, and a
    backward pass that ends at the images. In eval mode from the start.

    Some libraries query points outside [0, 1] (look-ahead, finite differences, smoothing noise), which a deployed
    system never gets: they are clamped, and the gradient is passed on as if they were not.

    Args:
        inner: images (N, C, H, W) -> logits (N, K).
        device: where images go before they reach ``inner``.
    """

    def __init__(self, inner: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.hidden = (inner,)  # in a tuple, nn.Module does not register it
        self.anchor = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) for images of shape (N, C, H, W)."""
        x = x.to(self.anchor.device, torch.float32)
        inside = x.detach().clamp(0, 1)
        if torch.is_grad_enabled() and x.requires_grad:
            logits: Tensor = _Gradient.apply(x, inside, self.hidden[0])
        else:
            logits = self.hidden[0](inside).detach().clone()  # Square Attack writes into the logits it gets
        return logits


class _Gradient(torch.autograd.Function):
    """A separate graph of the model: a backward pass reaches the images and no weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inside: Tensor, model: nn.Module) -> Tensor:
        with torch.enable_grad():
            ctx.images = inside.requires_grad_()
            ctx.logits = model(ctx.images)
        return ctx.logits.detach().clone()  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        gradient = None
        if ctx.logits.requires_grad:
            # Kept for further calls: Jacobians are computed one class at a time.
            (gradient,) = torch.autograd.grad(ctx.logits, ctx.images, grad, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise UsageError(
                "the target model gives no gradient to the images; use an attack that needs scores or decisions"
            )
        return gradient, None, None


def seed_from(rng: Stream) -> int:
    """A seed for a library's own generator, below 2**31, fixed by the streams of the whole batch."""
    return seed_of("peer", rng.calls, *rng.seeds.tolist()) & 0x7FFFFFFF


@contextmanager
def silenced(logger: str) -> Iterator[None]:
    """Silence a library, and restore afterwards what it changes of the process besides random numbers.

    That is the level of its ``logger`` (raised to critical: the harness does the reporting), the warning filters, and
    the trace function, which pyautoattack sets and clears.
    """
    log, trace = logging.getLogger(logger), sys.gettrace()
    level = log.level
    try:
        with warnings.catch_warnings():
            # Its warnings (deprecations, precision) are of no use to someone who runs it from here.
            warnings.filterwarnings("ignore", module=rf"{logger.replace('-', '_')}\b")
            log.setLevel(logging.CRITICAL)
            yield
    finally:
        sys.settrace(trace)
        log.setLevel(level)
