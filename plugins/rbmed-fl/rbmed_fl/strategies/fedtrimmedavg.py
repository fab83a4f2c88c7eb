"""Coordinate-wise trimmed mean (Yin et al. 2018, arXiv 1803.01498)."""

from __future__ import annotations

import math
from typing import Any

import flwr.serverapp.strategy

from rbmed_fl.option import Number
from rbmed_fl.params import TrainParams
from rbmed_fl.robust import OnUpdates, Robust
from rbmed_fl.strategy_base import Merger
from robustbench_med import Field
from robustbench_med.errors import UsageError


class Trimmed(OnUpdates, flwr.serverapp.strategy.FedTrimmedAvg):
    """Flower's FedTrimmedAvg, on updates."""


class FedTrimmedAvg(Robust):
    """Every entry of the model is the mean of the clients' entries without the smallest and the largest ones.

    Of n clients, the floor of ``trim`` n are cut off at either end: so many liars cannot move it far. A client is
    suspected where its update is an outlier by its distance to the merged one (`rbmed_fl.robust.outliers`).
    """

    class Params(TrainParams):
        """Parameters of `FedTrimmedAvg`."""

        trim: Number = Field(0.25, gt=0, lt=0.5, description="Share of the clients that is cut off at either end.")

    def enough(self, clients: int) -> None:
        """Raise `UsageError` where nobody would be cut off, and the mean be a plain one."""
        trim = self.params.trim
        if int(trim * clients) < 1:
            raise UsageError(
                f"strategy fedtrimmedavg with trim={trim:g} cuts off nobody among {clients} clients; "
                f"it needs at least {math.ceil(1 / trim)}, or a larger trim below 0.5"
            )

    def server(self, parameters: frozenset[str], **common: Any) -> Merger:
        """Flower's FedTrimmedAvg, on updates."""
        return Trimmed(enough=self.enough, beta=self.params.trim, **common)
