"""Whether components work on a device other than the CPU, tried on the pretend device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from robustbench_med.interfaces.defense import Part, System
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.random import Stream
from robustbench_med.testing.part_training import learning_faults
from robustbench_med.testing.pretend.device import PretendDevice
from robustbench_med.testing.side_effects import far, like

if TYPE_CHECKING:
    from robustbench_med.testing.parts import Ask, Trained

Network = TypeVar("Network", bound=nn.Module)
DEVICE = PretendDevice.device
#: A pass may wait for the device so often.
MOST = 2
NAME = "other-device"
ABOUT = "It works on a GPU (tried without one): no tensor is left on the CPU; a pass hardly ever waits for the device"


def moved(network: Network) -> Network:
    """A copy of a network on the device."""
    return copy.deepcopy(network).to(DEVICE)


def moved_stream(rng: Stream) -> Stream:
    """The same streams on the device."""
    return Stream(rng.seeds.to(DEVICE), rng.calls)


def part_faults(made: Trained, fresh: Part, ask: Ask) -> Iterator[str]:
    """Faults of a detector or purifier on the device: while it learns, when it answers, and of its gradient.

    Args:
        made: the part on the CPU, trained.
        fresh: another one, not built.
        ask: calls the part.
    """
    with PretendDevice() as device:
        purifier = made.system.purifier
        system = System(moved(made.system.classifier), None if purifier is None else moved(purifier))
        yield from learning_faults(fresh, system, device=DEVICE)
        part, x, rng = moved(made.part), made.x.to(DEVICE), moved_stream(made.rng)
        there = replace(made, part=part, system=system, x=x, rng=rng)
        device.reset()
        found = ask(there, part, x.requires_grad_(), slice(None), rng[:])
        if found.requires_grad:
            torch.autograd.grad(found.sum(), x)
        yield from _waits(device)
        yield from like(found, x, tuple(found.shape), "the result")
        result = found.detach().cpu()
    with torch.no_grad():
        here = ask(made, made.part, made.x, slice(None), made.rng[:])
    if far(result, here):
        yield "gives another result there, though values are the same"


def answer_faults(network: nn.Module, x: Tensor, ask: Callable[[nn.Module, Tensor], Tensor]) -> Iterator[str]:
    """Faults of a network's answers on the device."""
    with PretendDevice() as device, torch.no_grad():
        images, there = x.to(DEVICE), moved(network)
        device.reset()
        found = ask(there, images)
        yield from _waits(device)
        yield from like(found, images, tuple(found.shape), "the answer")
        result = found.cpu()
    with torch.no_grad():
        if far(result, ask(network, x)):
            yield "gives another answer there, though values are the same"


def _waits(device: PretendDevice) -> Iterator[str]:
    if (times := device.syncs.total()) > MOST:
        lines = ", ".join(f"{place} ({count})" for place, count in device.syncs.most_common(3))
        yield f"waits for the device {plural(times, 'time')} in a pass, which makes a GPU slow: {lines}"
