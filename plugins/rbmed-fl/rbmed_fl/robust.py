"""Robust aggregation: Flower's rules, applied to updates, and which clients are outliers.

All arrays that are sent count, batch-norm statistics included. Between honest clients with a ResNet on brainsim, these
are two thirds and more of the squared distances, and hide a Byzantine client that does not change them and only flips
the sign of its update; models with group normalisation have none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flwr.serverapp.strategy
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as Aggregator
from numpy.typing import NDArray

from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.flower_grid import Merged, partition_id
from robustbench_med import Federated, Learner, Split, TrainJob
from robustbench_med.errors import HarnessError, UsageError

#: With fewer than five replies, their spread is not informative.
FEWEST = 5


def outliers(values: NDArray[Any]) -> list[int]:
    """Indices of values (n,) that lie above median + 4 * 1.4826 * MAD, the median absolute deviation.

    1.4826 MAD estimates a standard deviation, from ten values so roughly that a limit of three of them would give an
    outlier among ten normal values in every tenth round; four give one in every thirtieth. It is at least a twentieth
    of the median, so that clients that nearly agree have no outlier; fewer than `FEWEST` values have none either.
    An honest client with different data may be an outlier, and a Byzantine client with a small change may not.
    """
    if len(values) < FEWEST:
        return []
    values = np.nan_to_num(values, nan=np.inf, posinf=np.inf)
    centre = np.median(values)
    spread = max(1.4826 * np.median(np.abs(values - centre)), centre / 20)
    return [int(index) for index in np.flatnonzero(values > centre + 4 * spread)]


class UpdateMixin(flwr.serverapp.strategy.FedAvg):
    """Mixin for one of Flower's rules: merges updates, the difference of what a client sent and what it received.

    The rules commute with this shift. Flower computes distances in float32 as |a|^2 + |b|^2 - 2ab, which for weights
    gives mostly rounding errors once the clients agree; for updates it is accurate.

    Args:
        check_clients: raises `UsageError` if the rule is not defined for this number of replies.
        common: of Flower's strategy.

    Attributes:
        suspected: partition ids of the clients that were outliers in the last round.
    """

    def __init__(self, check_clients: Callable[[int], None], **common: Any) -> None:
        super().__init__(**common)
        self.suspected: list[int] = []
        self._check_clients = check_clients
        self._sent: dict[str, NDArray[Any]] = {}

    def suspect(self, updates: NDArray[Any], merged: NDArray[Any]) -> list[int]:
        """Indices of the updates (n, d) that are outliers by their distance to the merged one (d,)."""
        return outliers(np.linalg.norm(updates - merged, axis=1))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Flower's strategy."""
        self._sent = {name: array.numpy() for name, array in arrays.items()}
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Merged:
        """See Flower's strategy.

        Raises:
            HarnessError: the rule is not defined for so few replies.
        """
        replies = [reply for reply in replies if not reply.has_error()]
        try:
            self._check_clients(len(replies))
        except UsageError as error:
            raise HarnessError(str(error)) from None
        updates = []
        for reply in replies:
            arrays = reply.content.array_records["arrays"]
            update = {name: array.numpy() - self._sent[name] for name, array in arrays.items()}
            reply.content["arrays"] = ArrayRecord({name: Array(value) for name, value in update.items()})
            updates.append(update)
        merged, metrics = super().aggregate_train(server_round, replies)
        assert merged is not None
        step = {name: merged[name].numpy() for name in updates[0]}
        rows = self.suspect(np.stack([_flat(update) for update in updates]), _flat(step))
        self.suspected = [partition_id(replies[row]) for row in rows]
        return ArrayRecord({name: Array(self._sent[name] + value) for name, value in step.items()}), metrics


def _flat(update: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([value.ravel() for value in update.values()])


class RobustStrategy(FederatedStrategy, ABC):
    """A federation whose aggregation tolerates some Byzantine clients.

    Only `MultiKrum`'s mean of the selected clients weights them by their number of examples, which a Byzantine client
    can misreport.
    """

    averages = False

    @abstractmethod
    def check_clients(self, clients: int) -> None:
        """Raise `UsageError` if the rule is not defined for this number of clients."""

    def suspects(self, aggregator: Aggregator) -> list[int]:
        """See `FederatedStrategy`."""
        assert isinstance(aggregator, UpdateMixin)
        return aggregator.suspected

    def train(self, build: Callable[[], Learner], clients: Mapping[str, Split], job: TrainJob) -> Federated:
        """See `FederatedStrategy`; also raises `UsageError` if the rule is not defined for so few clients."""
        if clients:
            self.check_clients(len(clients))
        return super().train(build, clients, job)
