"""Coordinate-wise median (Yin et al. 2018, arXiv 1803.01498)."""

from __future__ import annotations

from typing import Any

import flwr.serverapp.strategy
from flwr.serverapp.strategy import Strategy as Aggregator

from rbmed_fl.robust import RobustStrategy, UpdateMixin


class MedianAggregator(UpdateMixin, flwr.serverapp.strategy.FedMedian):
    """Flower's FedMedian, on updates."""


class FedMedian(RobustStrategy):
    """Every entry of the model is the median of the clients' entries: fewer than half of them cannot move it far.

    A client is suspected if its update is an outlier by its distance to the median (`rbmed_fl.robust.outliers`).
    """

    def check_clients(self, clients: int) -> None:
        """A median of any number is defined; of one or two it is their mean."""

    def aggregator(self, parameters: frozenset[str], **common: Any) -> Aggregator:
        """Flower's FedMedian, on updates."""
        return MedianAggregator(check_clients=self.check_clients, **common)
