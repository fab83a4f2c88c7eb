"""Checks of a detector."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustbench_med.interfaces.defense import Detector, Part
from robustbench_med.interfaces.random import Stream
from robustbench_med.testing.checking import Checks, NotApplicable, Subject
from robustbench_med.testing.parts import Trained, check_answers, check_learning, trained
from robustbench_med.testing.side_effects import like
from robustbench_med.training.plots import rows_of

check = Checks()
check_learning(check)


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


check_answers(check, _ask)
