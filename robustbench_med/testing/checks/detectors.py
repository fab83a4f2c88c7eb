"""Checks of a detector."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustbench_med.interfaces import Detector, Part
from robustbench_med.interfaces.random import Stream
from robustbench_med.testing.checking import Checks, NotApplicable, Subject
from robustbench_med.testing.parts import (
    Ask,
    Trained,
    draws_its_own,
    leaves_inputs_alone,
    repeats,
    survives_saving,
    trained,
    treats_each_alone,
)
from robustbench_med.testing.side_effects import like
from robustbench_med.training.plots import rows_of

check = Checks()


@check("learns", "It can be trained, and its state contains the result")
def learns(subject: Subject) -> Iterator[str]:
    """A few steps of its own training."""
    yield from trained(subject).faults


def _ask(made: Trained, part: Part, x: Tensor, rows: Tensor | slice, rng: Stream) -> Tensor:
    assert isinstance(part, Detector)
    return part.score(x[rows], made.system, rng)


@check("scores", "It gives each image one finite number")
def scores(subject: Subject) -> Iterator[str]:
    """float32 (N,); the pipeline sets the threshold."""
    made = trained(subject)
    with torch.no_grad():
        found = _ask(made, made.part, made.x, slice(None), made.rng[:])
    faults = list(like(found, made.x, (len(made.x),), "the score"))
    yield from faults
    if not faults and not found.isfinite().all():
        yield "returns values that are not finite"


@check("gradients", "Where the score has a gradient in the image, it is finite")
def gradients(subject: Subject) -> Iterator[str]:
    """Attacks that evade the detector use it."""
    made = trained(subject)
    x = made.x.clone().requires_grad_()
    found = _ask(made, made.part, x, slice(None), made.rng[:])
    if not found.requires_grad:
        raise NotApplicable("it has no gradient")
    (slope,) = torch.autograd.grad(found.sum(), x)
    if not slope.isfinite().all():
        yield "the gradient of its score is not finite"


@check("error-map", "If it has an error map: one number per pixel, 0 or more")
def error_map(subject: Subject) -> Iterator[str]:
    """And its pictures can be drawn."""
    made = trained(subject)
    rows = rows_of(made.part, made.x[:1], made.system, made.rng[:1])
    errors = rows.get("error map")
    if errors is None:
        raise NotApplicable("it has no error map")
    if errors.min() < 0:
        yield f"error_map goes down to {float(errors.min()):.4g}; it must be 0 or more"


@check("repeatable", "The same stream gives the same result; without `stochastic`, every stream does")
def repeatable(subject: Subject) -> Iterator[str]:
    """Bitwise, on one device."""
    yield from repeats(trained(subject), _asks(subject))


@check("own-stream", "Random numbers come from the stream `rng` alone")
def own_stream(subject: Subject) -> Iterator[str]:
    """The global generators must not change."""
    yield from draws_its_own(trained(subject), _asks(subject))


@check("batch-split", "An image's result does not depend on which others are in the batch")
def batch_split(subject: Subject) -> Iterator[str]:
    """The batch in two parts of different size."""
    yield from treats_each_alone(trained(subject), _asks(subject))


@check("batch-order", "An image's result does not depend on its place in the batch")
def batch_order(subject: Subject) -> Iterator[str]:
    """The batch in reverse order."""
    made = trained(subject)
    yield from treats_each_alone(made, _asks(subject), torch.arange(len(made.x)).flip(0))


@check("inputs-unmodified", "Images, the classifier's weights and its own stay as they were")
def inputs_unmodified(subject: Subject) -> Iterator[str]:
    """In-place changes would affect the next attack."""
    yield from leaves_inputs_alone(trained(subject), _asks(subject))


@check("survives-saving", "It gives the same results after its state was saved and loaded")
def survives_saving_(subject: Subject) -> Iterator[str]:
    """As safetensors, into a fresh part."""
    yield from survives_saving(subject, trained(subject), _asks(subject))


def _asks(subject: Subject) -> Ask:
    made = trained(subject)
    return lambda part, x, rows, rng: _ask(made, part, x, rows, rng)
