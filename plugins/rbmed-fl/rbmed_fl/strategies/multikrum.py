"""Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flwr.serverapp.strategy
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import Strategy as Aggregator

from rbmed_fl.robust import KrumScoreMixin, KrumStrategy
from robustbench_med import Field
from robustbench_med.errors import UsageError


class MultiKrumAggregator(KrumScoreMixin, flwr.serverapp.strategy.MultiKrum):
    """Flower's MultiKrum, on updates; ``select`` of None selects n - f - 2."""

    def __init__(self, select: int | None, **common: Any) -> None:
        super().__init__(**common)
        self._select = select

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
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
