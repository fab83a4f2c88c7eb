"""Coordinate-wise median (Yin et al. 2018, arXiv 1803.01498)."""

from __future__ import annotations

from typing import Any

import flwr.serverapp.strategy

from rbmed_fl.robust import OnUpdates, Robust
from rbmed_fl.strategy_base import Merger


class Median(OnUpdates, flwr.serverapp.strategy.FedMedian):
    """Flower's FedMedian, on updates."""


class FedMedian(Robust):
    """Every entry of the model is the median of the clients' entries: fewer than half of them cannot move it far.

    A client is suspected where its update is an outlier by its distance to the median (`rbmed_fl.robust.outliers`).
    """

    def enough(self, clients: int) -> None:
        """A median of any number is defined; of one or two it is their mean."""

    def server(self, parameters: frozenset[str], **common: Any) -> Merger:
        """Flower's FedMedian, on updates."""
        return Median(enough=self.enough, **common)
