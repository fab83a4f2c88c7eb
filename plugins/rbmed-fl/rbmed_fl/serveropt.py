"""Optimizers on the server: Flower's, made to step parameters only and to go on after an interruption.

The mean of the clients' updates takes the place of a gradient, of opposite sign. It is a difference of weights and not
a gradient: its entries are about as large as what the clients' own optimizer walks in a round.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flwr.serverapp.strategy
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy.fedopt import FedOpt
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from rbmed_fl.federation import Federation
from rbmed_fl.states import State, put, under
from rbmed_fl.strategy_base import Merger


class OnParameters(flwr.serverapp.strategy.FedAvg):
    """Put before one of Flower's server optimizers: parameters take its step, buffers are averaged.

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

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
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
        kept = ArrayRecord({name: array for name, array in arrays.items() if name not in self._parameters})
        return RecordDict({"arrays": kept, "metrics": reply.metric_records["metrics"]})


class Adaptive(Federation):
    """A federation whose server keeps first and second moments of the mean update, as one of Flower's `FedOpt`."""

    def remember(self, merger: Merger) -> State:
        """The moments."""
        assert isinstance(merger, FedOpt)
        moments = {"m": merger.m_t or {}, "v": merger.v_t or {}}
        return {
            name: value
            for moment, arrays in moments.items()
            for name, value in put(moment, {key: torch.from_numpy(array) for key, array in arrays.items()}).items()
        }

    def restore(self, merger: Merger, state: State) -> None:
        """See `Federation`."""
        assert isinstance(merger, FedOpt)
        merger.m_t = {name: value.numpy() for name, value in under("m", state).items()}
        merger.v_t = {name: value.numpy() for name, value in under("v", state).items()}
