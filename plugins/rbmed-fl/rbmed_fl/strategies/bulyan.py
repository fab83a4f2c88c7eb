"""Bulyan (El Mhamdi et al. 2018, arXiv 1802.07927)."""

from __future__ import annotations

import gc
from collections.abc import Iterable

import flwr.serverapp.strategy
from flwr.app import ArrayRecord, Message, MetricRecord

from rbmed_fl.robust import KrumScoreMixin, KrumStrategy


class BulyanAggregator(KrumScoreMixin, flwr.serverapp.strategy.Bulyan):
    """Flower's Bulyan, on updates."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
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
