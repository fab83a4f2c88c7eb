"""Krum (Blanchard et al. 2017, arXiv 1703.02757)."""

from __future__ import annotations

import flwr.serverapp.strategy

from rbmed_fl.robust import KrumScoreMixin, KrumStrategy


class KrumAggregator(KrumScoreMixin, flwr.serverapp.strategy.Krum):
    """Flower's Krum, on updates."""


class Krum(KrumStrategy):
    """The model of one client: the one with the least sum of squared distances to its n - f - 2 nearest others.

    Needs n >= 2 f + 3 clients. The other updates of the round are not used, which costs accuracy if clients
    differ. The clients with the f largest scores are suspected, if they are outliers (`rbmed_fl.robust.outliers`).
    """

    factor = 2
    aggregator_class = KrumAggregator
