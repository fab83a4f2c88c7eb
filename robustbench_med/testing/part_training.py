"""Trains detectors and purifiers on toy images, over the clients and at each client, and reports faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from robustbench_med.defenses.resolved import fits, learns, leaves
from robustbench_med.interfaces.defense import Part, System
from robustbench_med.interfaces.training import TrainJob
from robustbench_med.testing.toys import toy_split
from robustbench_med.training.parts import NoClassifier

#: Side of the toy images for detectors, purifiers and models: the default of the embedded data.
SIZE = 64
STEPS = 2
CPU = torch.device("cpu")


def seeded(work: Callable[[], Any]) -> Any:
    """Run work that draws from torch's global generator, such as initial weights; restore the generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return work()


def learning_faults(part: Part, system: System, channels: int = 1, device: torch.device = CPU) -> Iterator[str]:
    """Build a part, train it for a few steps as the harness does, and yield the faults.

    Args:
        part: newly built; it is fitted afterwards.
        system: the other parts; the training gets those in ``needs``.
        channels: of the images.
        device: where it is trained; the system is there already.
    """
    seeded(lambda: part.build(channels, SIZE))
    part.to(device)
    if foreign := [inner for inner in part.inner() if inner not in set(part.modules())]:
        yield f"inner() has a part that is not a submodule: {type(foreign[0]).__name__}"
    for leaf in leaves(part):
        classifier = system.classifier if "classifier" in leaf.needs else NoClassifier()
        seen = System(classifier, system.purifier if "purifier" in leaf.needs else None)
        if learns(leaf):
            yield from seeded(partial(_learner_faults, leaf, seen, channels, device))
        if fits(leaf):
            yield from seeded(partial(_fit_faults, leaf, seen, channels, device))


def _learner_faults(part: Part, system: System, channels: int, device: torch.device) -> list[str]:
    found = []
    if "training" not in type(part).Params.model_fields:
        found.append("overrides learner and has no parameter 'training' that names the strategy")
    learner = part.learner(system)
    names, own = set(learner.state_dict()), set(part.state_dict())
    # The state that each client fits is not part of the learner's state.
    if names - own or (own - names and not fits(part)):
        odd = sorted(names ^ own)
        found.append(f"the learner's state names differ from the part's: {_few(odd)}")
    trained = {name: weight for name, weight in learner.named_parameters() if weight.requires_grad}
    if not trained:
        return [*found, "the learner has no parameters to train"]
    split = toy_split(4, channels, SIZE)
    images, labels = split.images.to(device), split.labels.to(device)
    optimizer = torch.optim.SGD(trained.values(), lr=1e-4)
    learner.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = learner.loss(images.clone(), labels)
        if loss.shape or not loss.isfinite():
            shown = loss.detach().flatten()[:3].tolist()
            return [*found, f"the learner's loss must be one finite number, not {shown}"]
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        if idle := [name for name, weight in trained.items() if weight.grad is None]:
            return [*found, f"the learner's loss gives no gradient to {_few(idle)}"]
        optimizer.step()
    return found


def _fit_faults(part: Part, system: System, channels: int, device: torch.device) -> list[str]:
    found = []
    before = {name: value.clone() for name, value in part.state_dict().items()}
    figures = part.eval().fit(toy_split(24, channels, SIZE), system, TrainJob(device=device))
    if not all(math.isfinite(value) for value in figures.values()):
        found.append(f"fit must return finite numbers, not {figures}")
    after = part.state_dict()
    if before.keys() != after.keys() or all(torch.equal(value, after[name]) for name, value in before.items()):
        found.append("fit must fill buffers that build has registered, or its results are not stored")
    return found


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *["..."][: len(names) > 3]])
