"""Median and trimmed mean of each entry of the model (Yin et al. 2018, arXiv 1803.01498)."""

from __future__ import annotations

import math
from typing import Any

import flwr.serverapp.strategy
from flwr.serverapp.strategy import Strategy as Aggregator

from rbmed_fl.params import TrainParams
from rbmed_fl.robust import RobustStrategy, UpdateMixin
from robustbench_med import Field, Number
from robustbench_med.errors import UsageError


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


class TrimmedMeanAggregator(UpdateMixin, flwr.serverapp.strategy.FedTrimmedAvg):
    """Flower's FedTrimmedAvg, on updates."""


class FedTrimmedAvg(RobustStrategy):
    """Every entry of the model is the mean of the clients' entries without the smallest and the largest ones.

    Of n clients, the floor of ``trim`` n are cut off at either end: so many Byzantine clients cannot move it far. A
    client is suspected if its update is an outlier by its distance to the merged one (`rbmed_fl.robust.outliers`).
    """

    class Params(TrainParams):
        trim: Number = Field(0.25, gt=0, lt=0.5, description="Share of the clients that is cut off at either end.")

    def check_clients(self, clients: int) -> None:
        """Raise `UsageError` if no client would be cut off, which is a plain mean."""
        trim = self.params.trim
        if int(trim * clients) < 1:
            raise UsageError(
                f"strategy fedtrimmedavg with trim={trim:g} cuts off no client of {clients}; "
                f"it needs at least {math.ceil(1 / trim)}, or a larger trim below 0.5"
            )

    def aggregator(self, parameters: frozenset[str], **common: Any) -> Aggregator:
        """Flower's FedTrimmedAvg, on updates."""
        return TrimmedMeanAggregator(check_clients=self.check_clients, beta=self.params.trim, **common)
