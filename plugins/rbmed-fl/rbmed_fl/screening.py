"""Which replies the server merges: finite ones of about the usual length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as Aggregator

from rbmed_fl.flower_grid import Merged, partition_id
from robustbench_med.errors import HarnessError


class Wrapped(Aggregator):
    """One of Flower's strategies inside another that changes what is merged."""

    def __init__(self, inner: Aggregator) -> None:
        self.inner = inner

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Flower's strategy."""
        return self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """See Flower's strategy."""
        return self.inner.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """See Flower's strategy."""
        self.inner.summary()


class Screen(Wrapped):
    """Wraps one of Flower's strategies: refuses replies that would spoil the model, and merges the others.

    Refused are a reply whose entries are not those of the model, one with a number that is not finite, and one whose
    update (what was sent minus what was received) has an L2 norm above ``limit`` times the median of the round's finite
    replies; of an even number it is the lower of the two in the middle, so that two clients can be told apart. A round
    without any reply leaves the model as it is.

    Attributes:
        refused: why, by partition id, in the current round.
        merged: False if the last round had no reply.

    Args:
        inner: merges the replies that are not refused.
        clients: names, in the order of their partition ids.
        limit: see above; 0: no limit.
    """

    def __init__(self, inner: Aggregator, clients: Sequence[str], limit: float) -> None:
        super().__init__(inner)
        self.refused: dict[int, str] = {}
        self.merged = True
        self._clients = clients
        self._limit = limit
        self._sent = ArrayRecord()
        self._before = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Flower's strategy."""
        self._sent, self.refused, self._before = arrays, {}, int(str(config["rounds-before"]))
        return self.inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Merged:
        """Merge what is not refused.

        Raises:
            HarnessError: there are replies, and each is refused.
        """
        replies = list(replies)
        usable = self._usable(replies)
        self.merged = bool(usable)
        if replies and not usable:
            reasons = "; ".join(f"{self._clients[index]}: {reason}" for index, reason in self.refused.items())
            raise HarnessError(f"no reply of round {self._before + server_round} can be merged ({reasons})")
        return self.inner.aggregate_train(server_round, usable) if usable else (None, None)

    def _usable(self, replies: Sequence[Message]) -> list[Message]:
        sent = {name: array.numpy() for name, array in self._sent.items()}
        lengths: dict[int, float] = {}
        for row, reply in enumerate(replies):
            arrays = reply.content.array_records["arrays"]
            if {name: tuple(array.shape) for name, array in arrays.items()} != {n: a.shape for n, a in sent.items()}:
                self.refused[partition_id(reply)] = "its entries are not those of the model"
                continue
            square = 0.0
            with np.errstate(invalid="ignore", over="ignore"):
                for name, array in arrays.items():
                    update = np.subtract(array.numpy(), sent[name], dtype=np.float64).ravel()
                    square += float(update @ update)
            if np.isfinite(square):
                lengths[row] = float(np.sqrt(square))
            else:
                self.refused[partition_id(reply)] = "its update is not finite"
        usual = sorted(lengths.values())[(len(lengths) - 1) // 2] if lengths else 0.0
        if self._limit and usual:
            for row, length in list(lengths.items()):
                if length > self._limit * usual:
                    ratio = (
                        f"its update is {length / usual:.3g} times as long as the median (update_limit={self._limit:g})"
                    )
                    self.refused[partition_id(replies[row])] = ratio
                    del lengths[row]
        return [replies[row] for row in lengths]
