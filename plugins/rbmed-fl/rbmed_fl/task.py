"""The parts of a federation that are fixed before the first round: strategy, untrained model, the clients' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from rbmed_fl.local_training import isolated_randomness
from rbmed_fl.states import State, to_cpu
from rbmed_fl.strategy_base import StrategyBase
from robustbench_med import Classifier, Learner
from robustbench_med.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrainingTask:
    """What a federation trains. It holds no images, so it can be sent to any process.

    Attributes:
        strategy: the strategy.
        classifier: untrained, on the training device; copied, never trained.
        initial: its state, on the CPU.
        local_prefixes: of the state names that stay with a client.
        clients: names, in the order of their partition ids.
        seed: of the training.
        device: where clients train.
        most_examples: number of images of the client that has most.
    """

    strategy: StrategyBase
    classifier: Learner
    initial: State
    local_prefixes: tuple[str, ...]
    clients: tuple[str, ...]
    seed: int
    device: torch.device
    most_examples: int = 0

    @classmethod
    def create(
        cls,
        strategy: StrategyBase,
        build: Callable[[], Learner],
        clients: tuple[str, ...],
        seed: int,
        device: torch.device,
        most_examples: int = 0,
    ) -> TrainingTask:
        """With a fresh classifier; equal seeds give equal initial weights."""
        with isolated_randomness(seed, device):
            # Convolutions train fastest in this layout, a third faster on a CPU.
            # (A strategy that combines several classifiers trains nothing else: the harness ensures that.)
            fresh: Learner = strategy.classifier(cast("Callable[[], Classifier]", build))
            classifier = fresh.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        initial, prefixes = to_cpu(classifier.state_dict()), strategy.local_prefixes(classifier)
        for prefix in prefixes:
            if not any(name.startswith(prefix) for name in initial):
                raise UsageError(f"no state of {type(classifier).__name__} starts with its personal prefix {prefix!r}")
        if strategy.params.privacy != "none":  # see `rbmed_fl.privacy`
            prefixes += tuple(name for name, value in classifier.named_buffers() if value.is_floating_point())
        return cls(strategy, classifier, initial, prefixes, clients, seed, device, most_examples)

    @property
    def parameters(self) -> frozenset[str]:
        """State names of the classifier's parameters; the other entries are buffers, such as batch-norm statistics."""
        return frozenset(name for name, _ in self.classifier.named_parameters(remove_duplicate=False))

    def divide(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """Split a state into (sent, stays with the client).

        Integers are in neither: the only ones are counters of batch normalisation. They are not needed, and they would
        dominate the distances between clients that robust strategies measure.
        """
        kept = {name: value for name, value in state.items() if name.startswith(self.local_prefixes)}
        rest = {name: value for name, value in state.items() if name not in kept}
        return {name: value for name, value in rest.items() if value.is_floating_point()}, kept
