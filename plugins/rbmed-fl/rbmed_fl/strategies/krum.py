"""Krum, Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757) and Bulyan (El Mhamdi et al. 2018, arXiv 1802.07927)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import flwr.serverapp.strategy
import numpy as np
from flwr.app import Message
from flwr.serverapp.strategy import Strategy as Aggregator
from numpy.typing import NDArray

from rbmed_fl.flower_grid import Merged
from rbmed_fl.params import TrainParams
from rbmed_fl.robust import RobustStrategy, UpdateMixin, outliers
from robustbench_med import Field
from robustbench_med.errors import UsageError


def krum_scores(updates: NDArray[Any], byzantine: int) -> NDArray[Any]:
    """Krum's score of each of the updates (n, d), as a distance: (n,).

    It is the root of the sum of the squared distances to its n - f - 2 nearest others.
    """
    norms = np.square(updates).sum(axis=1)
    squares = np.maximum(norms[:, None] + norms[None] - 2 * updates @ updates.T, 0)
    np.fill_diagonal(squares, 0)
    nearest = np.sort(squares, axis=1)[:, 1 : len(updates) - byzantine - 1]
    scores: NDArray[Any] = np.nan_to_num(np.sqrt(nearest.sum(axis=1)), nan=np.inf, posinf=np.inf)
    return scores


class KrumScoreMixin(UpdateMixin):
    """`UpdateMixin` for rules that select replies by Krum's score.

    Args:
        byzantine: assumed number of Byzantine clients, from the number of replies.
        common: of `UpdateMixin`.
    """

    num_malicious_nodes: int

    def __init__(self, byzantine: Callable[[int], int], **common: Any) -> None:
        super().__init__(**common)
        self._byzantine = byzantine

    def suspect(self, updates: NDArray[Any], merged: NDArray[Any]) -> list[int]:
        """The f largest scores, f the assumed number of Byzantine clients, if they are outliers."""
        scores = krum_scores(updates, self.num_malicious_nodes)
        largest = np.argsort(-scores, kind="stable")[: self.num_malicious_nodes].tolist()
        return sorted(set(largest) & set(outliers(scores)))

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Merged:
        """See `UpdateMixin`."""
        replies = list(replies)
        self.num_malicious_nodes = self._byzantine(sum(not reply.has_error() for reply in replies))
        return super().aggregate_train(server_round, replies)


class KrumStrategy(RobustStrategy):
    """A robust federation that assumes a number f of Byzantine clients and needs ``factor`` f + 3 clients."""

    factor: ClassVar[int]
    aggregator_class: ClassVar[Callable[..., Aggregator]]

    class Params(TrainParams):
        """Parameters of a strategy that selects replies by Krum's score."""

        byzantine: int | None = Field(
            None,
            ge=0,
            description="Assumed number of Byzantine clients, f; default: the largest possible.",
        )

    def aggregator(self, parameters: frozenset[str], **common: Any) -> Aggregator:
        """Flower's rule, on updates."""
        return self.aggregator_class(check_clients=self.check_clients, byzantine=self.byzantine, **common)

    def byzantine(self, clients: int) -> int:
        """The assumed number of Byzantine clients: as given, or the largest for this number of clients."""
        given = self.params.byzantine
        return max(0, (clients - 3) // self.factor) if given is None else int(given)

    def check_clients(self, clients: int) -> None:
        """See `RobustStrategy`."""
        f = self.byzantine(clients)
        if clients < self.factor * f + 3:
            most = (clients - 3) // self.factor
            raise UsageError(
                f"strategy {type(self).__name__.lower()} with byzantine={f} needs at least {self.factor * f + 3} "
                f"clients ({self.factor} f + 3), and there are {clients}; "
                f"{f'valid: byzantine=0 to {most}' if most >= 0 else 'no value is valid for so few clients'}"
            )


class KrumAggregator(KrumScoreMixin, flwr.serverapp.strategy.Krum):
    """Flower's Krum, on updates."""


class Krum(KrumStrategy):
    """The model of one client: the one with the least sum of squared distances to its n - f - 2 nearest others.

    Needs n >= 2 f + 3 clients. The other updates of the round are not used, which costs accuracy if clients
    differ. The clients with the f largest scores are suspected, if they are outliers (`rbmed_fl.robust.outliers`).
    """

    factor = 2
    aggregator_class = KrumAggregator


class MultiKrumAggregator(KrumScoreMixin, flwr.serverapp.strategy.MultiKrum):
    """Flower's MultiKrum, on updates; ``select`` of None selects n - f - 2."""

    def __init__(self, select: int | None, **common: Any) -> None:
        super().__init__(**common)
        self._select = select

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Merged:
        """See `KrumScoreMixin`."""
        replies = [reply for reply in replies if not reply.has_error()]
        self.num_nodes_to_select = self._select or max(1, len(replies) - self._byzantine(len(replies)) - 2)
        return super().aggregate_train(server_round, replies)


class MultiKrum(KrumStrategy):
    """The mean, weighted by examples, of the clients with the smallest of Krum's scores.

    Needs n >= 2 f + 3 clients. By default n - f - 2 of them are selected, the most for which the rule is
    proven (Damaskinos et al. 2019, AggregaThor). The clients with the f largest scores are suspected, if they are
    outliers (`rbmed_fl.robust.outliers`).
    """

    factor = 2
    aggregator_class = MultiKrumAggregator

    class Params(KrumStrategy.Params):
        select: int | None = Field(None, ge=1, description="Clients to average; not given: n - f - 2.")

    def check_clients(self, clients: int) -> None:
        """See `KrumStrategy`; also raises `UsageError` if more are to be selected than there are."""
        super().check_clients(clients)
        select = self.params.select
        if select is not None and select > clients:
            raise UsageError(f"strategy multikrum with select={select} has {clients} clients; valid: 1 to {clients}")

    def aggregator(self, parameters: frozenset[str], **common: Any) -> Aggregator:
        """Flower's MultiKrum, on updates."""
        return super().aggregator(parameters, select=self.params.select, **common)


class BulyanAggregator(KrumScoreMixin, flwr.serverapp.strategy.Bulyan):
    """Flower's Bulyan, on updates."""

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Merged:
        """See `KrumScoreMixin`."""
        # Flower runs the garbage collector once per reply, seconds in a large process; frozen objects are skipped.
        gc.freeze()
        try:
            return super().aggregate_train(server_round, replies)
        finally:
            gc.unfreeze()


class Bulyan(KrumStrategy):
    """Selects n - 2 f clients; every entry is the mean of the n - 4 f of theirs that lie nearest to their median.

    Needs n >= 4 f + 3 clients. As in Flower, the clients with the smallest of Krum's scores are selected all at once;
    the paper selects them one by one and computes the scores of the rest again. The clients with the f largest scores
    are suspected, if they are outliers (`rbmed_fl.robust.outliers`). With f = 0 it is the mean of all clients.
    """

    factor = 4
    aggregator_class = BulyanAggregator
