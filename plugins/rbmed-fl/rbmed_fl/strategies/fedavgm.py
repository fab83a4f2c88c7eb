"""Federated averaging with momentum on the server (Hsu et al. 2019, arXiv 1909.06335)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flwr.serverapp.strategy
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.common import NDArray
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as Aggregator

from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.flower_grid import Merged
from rbmed_fl.params import TrainParams
from rbmed_fl.serveropt import ParameterMixin
from rbmed_fl.states import State
from robustbench_med import Field


class MomentumAggregator(ParameterMixin, flwr.serverapp.strategy.FedAvgM):
    """Flower's FedAvgM with a momentum by name; Flower's own is a list in the order of the first arrays."""

    def __init__(self, parameters: frozenset[str], **common: Any) -> None:
        super().__init__(parameters, **common)
        self.velocity: dict[str, NDArray] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Flower's strategy."""
        self.current_arrays = arrays  # buffers too are the sent ones, not those changed by the momentum
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Merged:
        """See Flower's strategy."""
        replies = [reply for reply in replies if not reply.has_error()]
        names = list(replies[0].content.array_records["arrays"])
        assert self.current_arrays is not None
        # After an interruption the model's entries have another order than the clients'.
        self.current_arrays = ArrayRecord({name: self.current_arrays[name] for name in names})
        self.momentum_vector = [self.velocity[name] for name in names] if self.velocity else None
        merged = super().aggregate_train(server_round, replies)
        self.velocity = dict(zip(names, self.momentum_vector or [], strict=False))
        return merged


class FedAvgM(FederatedStrategy):
    """FedAvg that adds a decaying sum v of the mean updates d to the model: v = momentum v + d.

    The sum of a constant update is 1 / (1 - momentum) times as long; ``server_lr`` scales the step.
    """

    server_step = True

    class Params(TrainParams):
        server_lr: float = Field(1.0, gt=0, description="Share of the sum that is added to the model.")
        momentum: float = Field(0.5, ge=0, lt=1, description="Share of the sum that remains in the next round.")

    def aggregator(self, parameters: frozenset[str], **common: Any) -> Aggregator:
        """Flower's FedAvgM, on parameters."""
        return MomentumAggregator(
            parameters,
            server_learning_rate=self.params.server_lr,
            server_momentum=self.params.momentum,
            **common,
        )

    def aggregator_state(self, aggregator: Aggregator) -> State:
        """The momentum."""
        assert isinstance(aggregator, MomentumAggregator)
        return {name: torch.from_numpy(value) for name, value in aggregator.velocity.items()}

    def restore_aggregator(self, aggregator: Aggregator, state: State) -> None:
        """See `FederatedStrategy`."""
        assert isinstance(aggregator, MomentumAggregator)
        aggregator.velocity = {name: value.numpy() for name, value in state.items()}
