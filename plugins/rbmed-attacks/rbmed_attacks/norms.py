"""The geometry of a threat model in Linf, L2 and L1: projections, steepest steps and random starts.

The formulas keep the order of operations of the reference implementation of Auto-PGD: a result that differs in the last
bit can change the sign of a gradient, and then the whole path. `ThreatModel.project` and `ThreatModel.distance`, with
which the harness judges any attack, round differently, and in L1 project onto the ball first and then onto [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med import Stream, ThreatModel

#: Halvings of the interval that holds the amount an L1 projection takes off; float32 has 24 bits.
_HALVINGS = 26
#: Newton steps to a hyperplane. Each is exact up to the next limit; the tests measure what is left.
_NEWTON = 12


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """One value per image, (N,), in the shape (N, 1, ...) that broadcasts with ``like``, (N, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))


def length(threat: ThreatModel, v: Tensor) -> Tensor:
    """Norm of each image, shape (N, 1, 1, 1) for ``v`` of shape (N, C, H, W)."""
    flat = v.flatten(1)
    if threat.norm == "linf":
        return per_image(flat.abs().amax(1), v)
    return per_image(flat.square().sum(1).sqrt() if threat.norm == "l2" else flat.abs().sum(1), v)


def unit(threat: ThreatModel, v: Tensor) -> Tensor:
    """``v`` scaled to norm 1; zeros stay zeros."""
    return v / (length(threat, v) + 1e-12)


def steepest(threat: ThreatModel, gradient: Tensor) -> Tensor:
    """The step of norm 1 that raises a linear function most: the sign in Linf, the direction in L2.

    In L1 that would be a single pixel, and a step would be spent on it even when it can go no further. As is usual
    (Tramer & Boneh 2019, arXiv:1904.13000), the step is shared by the 5 % of pixels with the largest slope.
    """
    if threat.norm == "linf":
        return gradient.sign()
    return unit(threat, gradient) if threat.norm == "l2" else sparse_sign(gradient, 0.05)


def project(threat: ThreatModel, v: Tensor, x: Tensor) -> Tensor:
    """Images ``v`` brought into the ball around ``x`` and into [0, 1].

    Linf and L1: the nearest point of the intersection. L2: one after the other.
    """
    if threat.norm == "linf":
        return torch.minimum(torch.maximum(v, x - threat.eps), x + threat.eps).clamp_(0, 1)
    delta = v - x
    if threat.norm == "l1":
        return _into_l1(delta, x, threat.eps)
    size = length(threat, delta)
    return (x + delta / (size + 1e-12) * size.clamp_max(threat.eps)).clamp_(0, 1)


def to_rim(threat: ThreatModel, v: Tensor, x: Tensor, distance: Tensor) -> Tensor:
    """Images ``v``, at ``distance`` (N,) from ``x``, moved away from ``x`` to the rim of the ball, or back into it."""
    stretch = (threat.eps / distance.clamp_min(1e-12)).clamp_min(1)
    return project(threat, x + (v - x) * per_image(stretch, x), x)


def on_sphere(threat: ThreatModel, x: Tensor, rng: Stream) -> Tensor:
    """Random images where Auto-PGD starts: at distance ``eps`` before the clamp to [0, 1] (L1: also after it)."""
    shape = tuple(x.shape)
    if threat.norm == "l1":
        return _into_l1(rng.normal(shape).to(x.dtype), x, threat.eps)
    noise = 2 * rng.uniform(shape) - 1 if threat.norm == "linf" else rng.normal(shape)
    return (x + threat.eps * unit(threat, noise.to(x.dtype))).clamp_(0, 1)


def in_ball(threat: ThreatModel, x: Tensor, rng: Stream) -> Tensor:
    """Images drawn uniformly from the ball, then clamped to [0, 1]."""
    shape = tuple(x.shape)
    if threat.norm == "linf":
        return (x + threat.eps * (2 * rng.uniform(shape) - 1).to(x.dtype)).clamp_(0, 1)
    if threat.norm == "l2":
        noise = rng.normal(shape)
    else:  # Laplace noise, scaled to length 1, is uniform on the L1 sphere.
        signed = 2 * rng.uniform(shape) - 1
        # One number in 2**24 is 0, and its logarithm infinite: with it the whole image would be NaN.
        noise = -signed.sign() * torch.log1p(-signed.abs().clamp_max(1 - 2**-24))
    # The volume within radius r grows as r**d, hence the d-th root.
    radius = rng.uniform((len(x), *[1] * (x.dim() - 1))).to(x.dtype) ** (1 / x[0].numel())
    return (x + threat.eps * radius * unit(threat, noise.to(x.dtype))).clamp_(0, 1)


def _into_l1(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    """The point nearest to ``x + delta`` in both the L1 ball and [0, 1] (Croce & Hein 2021, arXiv:2103.01208).

    A common amount is taken off every entry of ``delta``, but at least what leaves [0, 1] and at most the entry.
    """
    size = delta.abs().flatten(1)
    outside = (-torch.minimum(1 - x - delta, x + delta)).clamp_min_(0).flatten(1)
    low, high = torch.zeros_like(size[:, :1]), size.amax(1, keepdim=True)
    fits = (size - outside).sum(1, keepdim=True) <= eps
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # What is left is added up, not what is taken off: it is small, and so is its rounding error.
        enough = (size - outside.clamp_min(middle)).clamp_min_(0).sum(1, keepdim=True) <= eps
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    left = (size - torch.maximum(outside, torch.where(fits, 0, high))).clamp_min_(0)
    return (x + delta.sign() * left.view_as(delta)).clamp_(0, 1)


def sparse_sign(gradient: Tensor, share: float | Tensor) -> Tensor:
    """Signs of the largest entries, scaled to L1 norm 1; zeros stay zeros.

    Args:
        gradient: (N, C, H, W).
        share: how many of the entries take part, in [0, 1], for all images or per image (N,); always at least one.
    """
    size = gradient.abs().flatten(1)
    count = size.shape[1]
    shares = share if isinstance(share, Tensor) else torch.full((), share, device=size.device)
    rank = ((1 - shares) * count).clamp(0, count - 1).long().expand(len(size))
    threshold = size.sort(1).values.gather(1, rank[:, None])
    signs = (gradient * (size >= threshold).view_as(gradient)).sign()
    return signs / (per_image(signs.abs().flatten(1).sum(1), gradient) + 1e-10)


def to_plane(norm: str, start: Tensor, normal: Tensor, height: Tensor) -> Tensor:
    """The shortest steps, (N, D), from points of [0, 1] to hyperplanes, without leaving [0, 1].

    Where a hyperplane does not meet [0, 1], the step goes as far towards it as possible.

    Args:
        norm: in which the step is short.
        start: points in [0, 1], (N, D).
        normal: the gradient w of each linear function, (N, D).
        height: its value h at the start, (N,); the step s has ``w . s = -h``.
    """
    sign = torch.where(height < 0, -1.0, 1.0)[:, None].to(start.dtype)
    slope = normal.abs()
    # Scaled, so that squares neither under- nor overflow: the result does not depend on the scale of the logits.
    scale = slope.amax(1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
    slope, rest = slope / scale, height.abs()[:, None] / scale
    down = -normal.sign() * sign
    room = torch.where(down > 0, 1 - start, start)
    if norm == "linf":
        way = torch.minimum(_level(slope, room, rest), room)
    elif norm == "l2":
        way = torch.minimum(_level(slope.square(), room / slope.clamp_min(1e-30), rest) * slope, room)
    else:
        # The steepest entries first, each as far as it can go, until the plane is reached.
        order = slope.argsort(1, descending=True)
        gain = (slope * room).gather(1, order)
        left = rest - (gain.cumsum(1) - gain)
        part = (left / gain.clamp_min(torch.finfo(gain.dtype).tiny)).clamp_(0, 1)
        way = room * torch.zeros_like(part).scatter_(1, order, part)
    return down * way


def _level(weight: Tensor, limit: Tensor, total: Tensor) -> Tensor:
    """The level t, (N, 1), at which ``sum(weight * min(t, limit))`` is ``total``, or one above all limits.

    The sum is concave in t, so Newton's method from 0 never overshoots, and is exact once no limit lies ahead.
    """
    level = torch.zeros_like(total)
    for _ in range(_NEWTON):
        missing = (total - (weight * torch.minimum(limit, level)).sum(1, keepdim=True)).clamp_min_(0)
        free = (weight * (limit > level)).sum(1, keepdim=True)
        level = level + torch.where(free > 0, missing / free, 0)
    return level
