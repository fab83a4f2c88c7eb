"""Checks of a purifier."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustbench_med.interfaces.defense import Part, Purifier
from robustbench_med.interfaces.random import Stream
from robustbench_med.testing.checking import Checks, Subject
from robustbench_med.testing.parts import Trained, check_answers, check_learning, trained
from robustbench_med.testing.side_effects import like
from robustbench_med.training.plots import rows_of

check = Checks()
check_learning(check)


def _ask(_: Trained, part: Part, x: Tensor, rows: Tensor | slice, rng: Stream) -> Tensor:
    """Copies of the images, each at another strength."""
    assert isinstance(part, Purifier)
    return part.copies(x[rows], _strength(x)[rows], rng)


def _strength(x: Tensor) -> Tensor:
    return torch.linspace(0.1, 0.9, len(x), dtype=x.dtype, device=x.device)


@check("purifies", "Its images have the shape, type and range of those given")
@torch.no_grad()
def purifies(subject: Subject) -> Iterator[str]:
    """`purify`, and each of the `copies`."""
    made = trained(subject)
    part = made.part
    assert isinstance(part, Purifier)
    copies = _ask(made, part, made.x, slice(None), made.rng[:])
    yield from like(copies, made.x, (4, part.votes, *made.x.shape[1:]), "copies")
    pure = part.purify(made.x, _strength(made.x), made.rng[:])
    if pure.shape != made.x.shape:
        yield f"purify returns shape {tuple(pure.shape)}, not {tuple(made.x.shape)}"
    for images in (pure, copies):
        if not images.isfinite().all():
            yield "returns values that are not finite"
            return
    low, high = min(float(pure.min()), float(copies.min())), max(float(pure.max()), float(copies.max()))
    if low < 0 or high > 1:
        yield f"purified images span [{low:.4g}, {high:.4g}], outside [0, 1]"


@check("joins", "It joins the logits of its copies into one prediction")
def joins(subject: Subject) -> Iterator[str]:
    """(N, votes, K) -> (N, K)."""
    purifier = trained(subject).part
    assert isinstance(purifier, Purifier)
    joined = purifier.join(torch.randn(4, purifier.votes, 2, generator=torch.Generator().manual_seed(0)))
    if joined.shape != (4, 2) or not joined.isfinite().all():
        yield f"join makes {tuple(joined.shape)} of the logits (4, {purifier.votes}, 2), or values that are not finite"


@check("strength", "More strength never changes the images less")
@torch.no_grad()
def strength(subject: Subject) -> Iterator[str]:
    """Root mean square change, at strength 0 and at strength 1."""
    made = trained(subject)
    purifier = made.part
    assert isinstance(purifier, Purifier)

    def change(value: float) -> float:
        copies = purifier.copies(made.x, torch.full((len(made.x),), value), made.rng[:])
        return float((copies - made.x.unsqueeze(1)).square().mean().sqrt())

    weak, strong = change(0.0), change(1.0)
    if strong < weak * (1 - 1e-3) - 1e-6:
        yield f"images change by {weak:.4g} at strength 0 and by {strong:.4g} at strength 1"


@check(
    "gradients",
    "Its images have a finite gradient in the input, or it declares `differentiable = False`",
)
def gradients(subject: Subject) -> Iterator[str]:
    """Attacks that know the purifier use it."""
    made = trained(subject)
    purifier = made.part
    assert isinstance(purifier, Purifier)
    x = made.x.clone().requires_grad_()
    pure = purifier.purify(x, _strength(made.x), made.rng[:])
    if not pure.requires_grad:
        if purifier.differentiable:
            yield "purify gives no gradient in the images; declare differentiable = False"
        return
    if not purifier.differentiable:
        yield "declares differentiable = False, but purify has a gradient in the images"
    (slope,) = torch.autograd.grad(pure.square().sum(), x)
    if not slope.isfinite().all():
        yield "the gradient is not finite"
    elif not slope.any():
        yield "the gradient is zero everywhere; declare differentiable = False and detach the images"


@check("pictures", "Its pictures can be drawn")
def pictures(subject: Subject) -> Iterator[str]:
    """`rbmed train` stores them with the weights."""
    made = trained(subject)
    rows_of(made.part, made.x[:1], made.system, made.rng[:1])
    yield from ()


check_answers(check, _ask)
