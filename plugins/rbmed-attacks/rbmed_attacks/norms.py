"""The geometry of the threat model: projection, steepest step and random starts in Linf and L2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med import Stream, ThreatModel


@dataclass(frozen=True)
class Ball:
    """All images of [0, 1] within ``eps`` of an image, in ``linf`` or ``l2``.

    The formulas keep the order of operations of the reference implementation of Auto-PGD: a result that differs in
    the last bit can change the sign of a gradient, and then the whole path.
    """

    norm: str
    eps: float

    @classmethod
    def of(cls, threat: ThreatModel) -> Ball:
        """The ball of a threat model."""
        return cls(threat.norm, threat.eps)

    def length(self, v: Tensor) -> Tensor:
        """Norm of each image, shape (N, 1, 1, 1) for ``v`` of shape (N, C, H, W)."""
        flat = v.flatten(1)
        size = flat.abs().amax(1) if self.norm == "linf" else flat.square().sum(1).sqrt()
        return size.view(-1, *[1] * (v.dim() - 1))

    def unit(self, v: Tensor) -> Tensor:
        """``v`` scaled to norm 1; zeros stay zeros."""
        return v / (self.length(v) + 1e-12)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of norm 1 that raises a linear function most: the sign in Linf, the direction in L2."""
        return gradient.sign() if self.norm == "linf" else self.unit(gradient)

    def project(self, v: Tensor, x: Tensor) -> Tensor:
        """Images ``v`` brought into the ball around ``x`` and into [0, 1] (L2: one after the other)."""
        if self.norm == "linf":
            return torch.minimum(torch.maximum(v, x - self.eps), x + self.eps).clamp_(0, 1)
        delta = v - x
        size = self.length(delta)
        return (x + delta / (size + 1e-12) * size.clamp_max(self.eps)).clamp_(0, 1)

    def on_sphere(self, x: Tensor, rng: Stream) -> Tensor:
        """Random images at distance ``eps`` (before the clamp to [0, 1]), where Auto-PGD starts."""
        shape = tuple(x.shape)
        noise = 2 * rng.uniform(shape) - 1 if self.norm == "linf" else rng.normal(shape)
        return (x + self.eps * self.unit(noise.to(x.dtype))).clamp_(0, 1)

    def inside(self, x: Tensor, rng: Stream) -> Tensor:
        """Images drawn uniformly from the ball, then clamped to [0, 1]."""
        shape = tuple(x.shape)
        if self.norm == "linf":
            return (x + self.eps * (2 * rng.uniform(shape) - 1).to(x.dtype)).clamp_(0, 1)
        direction = self.unit(rng.normal(shape).to(x.dtype))
        # The volume within radius r grows as r**d, hence the d-th root.
        radius = rng.uniform((len(x), *[1] * (x.dim() - 1))).to(x.dtype) ** (1 / x[0].numel())
        return (x + self.eps * radius * direction).clamp_(0, 1)
