"""Federated averaging: one global model (McMahan et al. 2017, arXiv 1602.05629)."""

from __future__ import annotations

from rbmed_fl.federation import Federation


class FedAvg(Federation):
    """The base as it is: everything is sent, and Flower's own FedAvg merges it, weighted by number of examples."""
