"""Krum (Blanchard et al. 2017, arXiv 1703.02757)."""

from __future__ import annotations

from typing import Any

import flwr.serverapp.strategy

from rbmed_fl.robust import ByScore, Selecting
from rbmed_fl.strategy_base import Merger


class One(ByScore, flwr.serverapp.strategy.Krum):
    """Flower's Krum, on updates."""


class Krum(Selecting):
    """The model of one client: the one with the least sum of squared distances to its n - f - 2 nearest others.

    Needs n >= 2 f + 3 clients. Nothing is learnt from the others in that round, which costs accuracy where clients
    differ. The clients with the f largest scores are suspected, if they are outliers (`rbmed_fl.robust.outliers`).
    """

    factor = 2

    def server(self, parameters: frozenset[str], **common: Any) -> Merger:
        """Flower's Krum, on updates."""
        return One(enough=self.enough, byzantine=self.byzantine, **common)
