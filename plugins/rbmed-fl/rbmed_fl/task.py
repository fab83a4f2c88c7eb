"""What server and clients agree on before the first round: the strategy, the untrained model, the clients' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from rbmed_fl.local_training import own_randomness
from rbmed_fl.states import State, to_cpu
from rbmed_fl.strategy_base import Answers
from robustbench_med import Classifier, Learner
from robustbench_med.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Work:
    """A federation's task. It holds no images, so it can be sent to any process.

    Attributes:
        federation: the strategy.
        classifier: untrained, on the training device; copied, never trained.
        initial: its state, on the CPU.
        local: prefixes of the state names that stay with a client.
        clients: names, in the order of their partition ids.
        seed: of the training.
        device: where clients train.
    """

    federation: Answers
    classifier: Learner
    initial: State
    local: tuple[str, ...]
    clients: tuple[str, ...]
    seed: int
    device: torch.device

    @classmethod
    def of(
        cls,
        federation: Answers,
        build: Callable[[], Learner],
        clients: tuple[str, ...],
        seed: int,
        device: torch.device,
    ) -> Work:
        """With a fresh classifier; equal seeds give equal initial weights."""
        with own_randomness(seed, device):
            # The layout in which convolutions train fastest, a third faster on a CPU.
            # (A strategy that combines several classifiers trains nothing else: the harness sees to that.)
            fresh: Learner = federation.classifier(cast("Callable[[], Classifier]", build))
            classifier = fresh.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        initial, local = to_cpu(classifier.state_dict()), federation.keeps(classifier)
        for prefix in local:
            if not any(name.startswith(prefix) for name in initial):
                raise UsageError(f"no state of {type(classifier).__name__} starts with its personal prefix {prefix!r}")
        return cls(federation, classifier, initial, local, clients, seed, device)

    @property
    def parameters(self) -> frozenset[str]:
        """State names of the classifier's parameters; the other entries are buffers, such as batch-norm statistics."""
        return frozenset(name for name, _ in self.classifier.named_parameters(remove_duplicate=False))

    def divide(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """Split a state into (sent, stays with the client).

        Integers are neither: the only ones are counters of batch normalisation. Nobody needs them, and a robust
        strategy that measures distances between clients would measure little else.
        """
        kept = {name: value for name, value in state.items() if name.startswith(self.local)}
        rest = {name: value for name, value in state.items() if name not in kept}
        return {name: value for name, value in rest.items() if value.is_floating_point()}, kept
