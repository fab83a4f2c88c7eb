"""Flower's server optimizers, changed to step parameters only and to resume after an interruption.

The mean of the clients' updates takes the place of a gradient, of opposite sign. Its entries are differences of
weights, about as large as the steps of the clients' own optimizer in a round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import flwr.serverapp.strategy
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as Aggregator
from flwr.serverapp.strategy.fedopt import FedOpt
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.flower_grid import Merged
from rbmed_fl.states import State, strip_prefix


class ParameterMixin(flwr.serverapp.strategy.FedAvg):
    """Mixin for one of Flower's server optimizers: parameters take its step, buffers are averaged.

    An adaptive step may make a running variance negative. Flower's optimizers also return float64 where the model has
    float32, and FedAdam counts rounds from the last interruption; both would change a resumed training.

    Args:
        parameters: names of the entries that take the step.
        common: of Flower's strategy.
    """

    def __init__(self, parameters: frozenset[str], **common: Any) -> None:
        super().__init__(**common)
        self._parameters = parameters
        self._finished = 0
        self._sent = ArrayRecord()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Flower's strategy."""
        before = config["rounds-before"]
        assert isinstance(before, int)
        self._finished, self._sent = before, arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Merged:
        """See Flower's strategy."""
        replies = [reply for reply in replies if not reply.has_error()]
        means = aggregate_arrayrecords([self._buffers(reply.content) for reply in replies], self.weighted_by_key)
        stepped, metrics = super().aggregate_train(self._finished + server_round, replies)
        assert stepped is not None
        merged = {name: means.get(name, array).numpy() for name, array in stepped.items()}
        return ArrayRecord(
            {name: Array(value.astype(self._sent[name].dtype)) for name, value in merged.items()}
        ), metrics

    def _buffers(self, reply: RecordDict) -> RecordDict:
        arrays = reply.array_records["arrays"]
        kept = ArrayRecord()
        for name, array in arrays.items():
            if name not in self._parameters:
                kept[name] = array
        return RecordDict({"arrays": kept, "metrics": reply.metric_records["metrics"]})


class AdaptiveStrategy(FederatedStrategy):
    """A federation with first and second moments of the mean update on the server (Flower's `FedOpt`)."""

    server_step = True
    aggregator_class: ClassVar[Callable[..., Aggregator]]

    def aggregator(self, parameters: frozenset[str], **common: Any) -> Aggregator:
        """Flower's optimizer, on parameters."""
        params = self.params
        steps = {"eta": params.server_lr, "beta_1": params.beta_1, "beta_2": params.beta_2, "tau": params.tau}
        return self.aggregator_class(parameters, **steps, **common)

    def aggregator_state(self, aggregator: Aggregator) -> State:
        """The moments."""
        assert isinstance(aggregator, FedOpt)
        moments = {"m": aggregator.m_t or {}, "v": aggregator.v_t or {}}
        arrays = {f"{moment}/{name}": array for moment, entries in moments.items() for name, array in entries.items()}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def restore_aggregator(self, aggregator: Aggregator, state: State) -> None:
        """See `FederatedStrategy`."""
        assert isinstance(aggregator, FedOpt)
        aggregator.m_t = {name: value.numpy() for name, value in strip_prefix("m", state).items()}
        aggregator.v_t = {name: value.numpy() for name, value in strip_prefix("v", state).items()}
