"""Federated averaging with momentum on the server (Hsu et al. 2019, arXiv 1909.06335)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flwr.serverapp.strategy
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import NDArray
from flwr.serverapp import Grid

from rbmed_fl.federation import Federation
from rbmed_fl.params import TrainParams
from rbmed_fl.serveropt import OnParameters
from rbmed_fl.states import State
from rbmed_fl.strategy_base import Merger
from robustbench_med import Field


class Momentum(OnParameters, flwr.serverapp.strategy.FedAvgM):
    """Flower's FedAvgM, whose momentum is known by name: it holds lists in the order of the arrays it met first."""

    def __init__(self, parameters: frozenset[str], **common: Any) -> None:
        super().__init__(parameters, **common)
        self.velocity: dict[str, NDArray] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Flower's strategy."""
        self.current_arrays = arrays  # buffers too are those that were sent, not where the momentum took them
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See Flower's strategy."""
        replies = [reply for reply in replies if not reply.has_error()]
        names = list(replies[0].content.array_records["arrays"])
        assert self.current_arrays is not None
        # After an interruption the model's entries come in another order than the clients'.
        self.current_arrays = ArrayRecord({name: self.current_arrays[name] for name in names})
        self.momentum_vector = [self.velocity[name] for name in names] if self.velocity else None
        merged = super().aggregate_train(server_round, replies)
        self.velocity = dict(zip(names, self.momentum_vector or [], strict=False))
        return merged


class FedAvgM(Federation):
    """FedAvg with a server that keeps a decaying sum v of the mean updates d and adds that: v = momentum v + d.

    The sum of a steady update is 1 / (1 - momentum) times as long; ``server_lr`` scales what is added.
    """

    class Params(TrainParams):
        """Parameters of `FedAvgM`."""

        server_lr: float = Field(1.0, gt=0, description="Share of the sum that is added to the model.")
        momentum: float = Field(0.5, ge=0, lt=1, description="Share of the sum that is left in the next round.")

    def server(self, parameters: frozenset[str], **common: Any) -> Merger:
        """Flower's FedAvgM, on parameters."""
        return Momentum(
            parameters,
            server_learning_rate=self.params.server_lr,
            server_momentum=self.params.momentum,
            **common,
        )

    def remember(self, merger: Merger) -> State:
        """The momentum."""
        assert isinstance(merger, Momentum)
        return {name: torch.from_numpy(value) for name, value in merger.velocity.items()}

    def restore(self, merger: Merger, state: State) -> None:
        """See `Federation`."""
        assert isinstance(merger, Momentum)
        merger.velocity = {name: value.numpy() for name, value in state.items()}
