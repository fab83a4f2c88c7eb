"""Estimates the duration of a training from a trial on a few images of each client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch

from robustbench_med.defenses.building import PartBuilder, PartFolders, build_for
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.resolved import ResolvedDefense
from robustbench_med.defenses.weights import search
from robustbench_med.interfaces.dataset import Dataset, Split
from robustbench_med.interfaces.defense import Purifier, System
from robustbench_med.interfaces.training import Learner, Strategy, TrainJob
from robustbench_med.training.loader import Loader
from robustbench_med.training.untrained import ready_seed, untrained

#: Images of each client in a trial on the CPU; on other devices a whole batch.
FEW = 8


@dataclass(frozen=True)
class UntrainedPart:
    """A part that has to be trained.

    Attributes:
        part: ``classifier``, ``purifier`` or ``detector``.
        strategy: trains it.
        build: a fresh learner.
        clients: their training images.
        device: of the training.
    """

    part: str
    strategy: Strategy
    build: Callable[[], Learner]
    clients: dict[str, Split]
    device: torch.device

    def seconds(self) -> float | None:
        """Estimated seconds of the training; None for a strategy without rounds and local epochs.

        From a round of one epoch and one of three, on a few images: their difference is the work on images, the rest
        is the overhead of a round.
        """
        params = self.strategy.params
        if not {"rounds", "local_epochs", "batch_size"} <= set(type(params).model_fields):
            return None
        few = min(FEW, params.batch_size) if self.device.type == "cpu" else params.batch_size
        clients = {name: own.select(torch.arange(min(few, len(own)))) for name, own in self.clients.items()}
        self._trial(1, clients)  # the first is slow: memory is allocated and kernels are selected
        # The faster of two: what other programs do meanwhile would be multiplied many times.
        one, three = (min(self._trial(epochs, clients) for _ in range(2)) for epochs in (1, 3))
        epoch = max(three - one, 0.0) / 2
        share = sum(map(len, self.clients.values())) / sum(map(len, clients.values()))
        return float(params.rounds * (max(one - epoch, 0.0) + params.local_epochs * epoch * share))

    def _trial(self, epochs: int, clients: dict[str, Split]) -> float:
        short = self.strategy.params.model_copy(update={"rounds": 1, "local_epochs": epochs})
        strategy = type(self.strategy)(short)
        start = time.perf_counter()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)
            strategy.train(self.build, clients, TrainJob(device=self.device))
        return time.perf_counter() - start


def missing(loader: Loader, refs: Iterable[TrainedRef]) -> list[UntrainedPart]:
    """The parts of these defenses that have to be trained over clients, each once.

    Parts that each client only fits, such as neighbours or moments, are not counted: this takes little time.
    """
    found: dict[str, UntrainedPart] = {}
    for ref in refs:
        resolved, dataset = loader.resolved(ref), loader.dataset(ref)
        card = dataset.card()
        if search(resolved, card, seed=ref.seed)[0] is not None or ready_seed(resolved, card, ref.seed) is not None:
            continue
        keys = resolved.training_keys(card)
        for name in untrained(resolved, card, ref.seed or 0):
            found.setdefault(f"{name}-{keys[name]}", _work(name, resolved, dataset, loader.device))
    return list(found.values())


def _work(name: str, resolved: ResolvedDefense, dataset: Dataset, device: torch.device) -> UntrainedPart:
    card, clients = dataset.card(), dataset.split("train").by_site()

    def model() -> Learner:
        return build_for(resolved.model, card)

    if name == "classifier":
        return UntrainedPart(name, resolved.strategy, model, clients, device)
    part = resolved.learned()[name]
    made = PartBuilder(resolved, card, PartFolders({}), device)

    def learner() -> Learner:
        # The parts that it needs may be untrained: they take the same time.
        purifier = None
        if "purifier" in part.needs and resolved.purifier is not None:
            purifier = cast("Purifier", made.fresh(resolved.purifier).to(device))
        classifier = build_for(resolved.model, card).to(device)
        return made.fresh(part).to(device).learner(System(classifier, purifier))

    return UntrainedPart(name, resolved.training[name], learner, clients, device)
