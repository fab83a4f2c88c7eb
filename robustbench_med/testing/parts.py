"""Detectors and purifiers under test, built and trained for a few steps on toy images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustbench_med.defenses.building import resize
from robustbench_med.interfaces.defense import Part, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.testing import other_device
from robustbench_med.testing.checking import Checks, Subject
from robustbench_med.testing.part_training import SIZE, learning_faults, seeded
from robustbench_med.testing.side_effects import GlobalDraws, Unmodified, far, states_differ
from robustbench_med.testing.toys import ToyClassifier, ToyPurifier, toy_images


@dataclass(frozen=True)
class Trained:
    """A part on toy images.

    Attributes:
        part: built, trained for a few steps, in evaluation mode.
        system: the other parts of its pipeline.
        x, rng: toy images (4, C, 64, 64) and their streams.
        faults: faults of its training.
    """

    part: Part
    system: System
    x: Tensor
    rng: Stream
    faults: tuple[str, ...]


#: Calls a part: what was trained, the part (it, or a fresh one with its state), images, selected rows, their streams.
Ask = Callable[[Trained, Part, Tensor, Tensor | slice, Stream], Tensor]


def check_learning(check: Checks) -> None:
    """Add the check of a part's own training."""
    check("learns", "It can be trained, and its state contains the result")(
        lambda subject: iter(trained(subject).faults)
    )


def check_answers(check: Checks, ask: Ask) -> None:
    """Add the checks of what a part answers."""

    def add(name: str, about: str, look: Callable[[Trained, Ask], Iterator[str]]) -> None:
        check(name, about)(lambda subject: look(trained(subject), ask))

    add("repeatable", "The same stream gives the same result; without `stochastic`, every stream does", repeats)
    add("own-stream", "Random numbers come from the stream `rng` alone", draws_its_own)
    add("batch-split", "An image's result does not depend on which others are in the batch", treats_each_alone)
    add("batch-order", "An image's result does not depend on its place in the batch", ignores_the_order)
    add("inputs-unmodified", "Images, the classifier's weights and its own stay as they were", leaves_inputs_alone)
    check("colour", "It can be trained on images of three channels, and answers for them")(
        lambda subject: takes_colour(subject, ask)
    )
    check("survives-saving", "It gives the same results after its state was saved and loaded")(
        lambda subject: survives_saving(subject, trained(subject), ask)
    )
    check(other_device.NAME, other_device.ABOUT)(
        lambda subject: other_device.part_faults(trained(subject), subject.build(), ask)
    )


def trained(subject: Subject) -> Trained:
    """The trained part, created once for all checks."""
    return subject.once("trained", lambda: _made(subject, 1))


def _made(subject: Subject, channels: int) -> Trained:
    part: Part = subject.build()
    purifier = ToyPurifier() if subject.entry.spec.kind == "detector" else None
    system = System(ToyClassifier(channels=channels, size=SIZE).eval(), purifier)
    faults = tuple(learning_faults(part, system, channels))
    x, rng = toy_images(4, channels, SIZE)
    return Trained(part.eval(), system, x, rng, faults)


def takes_colour(subject: Subject, ask: Ask) -> Iterator[str]:
    """Faults of a part that is built for three channels and trained on them."""
    made = _made(subject, 3)
    yield from made.faults
    with torch.no_grad():
        found = ask(made, made.part, made.x, slice(None), made.rng[:])
    expected = (len(made.x),) if found.ndim == 1 else (*found.shape[:-3], *made.x.shape[1:])
    if tuple(found.shape) != expected or not found.isfinite().all():
        yield f"gives {tuple(found.shape)} for images of three channels, or values that are not finite"


@torch.no_grad()
def repeats(made: Trained, ask: Ask) -> Iterator[str]:
    """Faults of a part that is not a function of its images and its stream."""
    all_rows = slice(None)
    first, again = (ask(made, made.part, made.x, all_rows, made.rng[:]) for _ in range(2))
    if not torch.equal(first, again):
        yield "gives another result when run again with the same stream"
    other = ask(made, made.part, made.x, all_rows, made.rng.fork("another"))
    if not made.part.stochastic and not torch.equal(first, other):
        yield "declares stochastic = False, but its result depends on the stream"


@torch.no_grad()
def draws_its_own(made: Trained, ask: Ask) -> Iterator[str]:
    """Faults of a part that uses global generators."""
    draws = GlobalDraws()
    with draws.watch():
        ask(made, made.part, made.x, slice(None), made.rng[:])
    yield from draws.faults()


@torch.no_grad()
def ignores_the_order(made: Trained, ask: Ask) -> Iterator[str]:
    """Faults of a part that gives another result for the batch in reverse order."""
    order = torch.arange(len(made.x)).flip(0)
    whole = ask(made, made.part, made.x, slice(None), made.rng[:])
    if far(ask(made, made.part, made.x, order, made.rng[order])[order], whole):
        yield "an image's result depends on its place in the batch"


@torch.no_grad()
def treats_each_alone(made: Trained, ask: Ask) -> Iterator[str]:
    """Faults of a part that gives another result for the batch in two parts of different size."""
    whole = ask(made, made.part, made.x, slice(None), made.rng[:])
    apart = torch.cat([ask(made, made.part, made.x, rows, made.rng[rows]) for rows in (slice(0, 1), slice(1, None))])
    if far(apart, whole):
        yield "an image's result depends on the other images of the batch"


@torch.no_grad()
def leaves_inputs_alone(made: Trained, ask: Ask) -> Iterator[str]:
    """Faults of a part that modifies its inputs or its own weights."""
    x = made.x.clone()
    watched = Unmodified(images=x)
    watched.add("classifier", made.system.classifier)
    watched.add("own", made.part)
    ask(made, made.part, x, slice(None), made.rng[:])
    yield from watched.faults()


@torch.no_grad()
def survives_saving(subject: Subject, made: Trained, ask: Ask) -> Iterator[str]:
    """Faults of a part that differs after its state was stored as safetensors and loaded into a fresh one."""
    state = made.part.state_dict()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "state.safetensors"
        save_file({name: value.contiguous().clone() for name, value in state.items()}, file)
        kept = load_file(file)
    fresh: Part = copy.deepcopy(subject.build())
    seeded(lambda: fresh.build(1, SIZE))
    resize(fresh, kept)
    fresh.load_state_dict(kept)
    if changed := states_differ(state, fresh.state_dict()):
        yield f"these entries of its state do not survive saving: {', '.join(changed[:3])}"
    before, after = (ask(made, part.eval(), made.x, slice(None), made.rng[:]) for part in (made.part, fresh))
    if not torch.equal(before, after):
        yield "gives other results after its state was saved and loaded; store its fitted state in buffers"
