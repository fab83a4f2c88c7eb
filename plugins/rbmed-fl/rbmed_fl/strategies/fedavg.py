"""Federated averaging: one global model (McMahan et al. 2017, arXiv 1602.05629)."""

from __future__ import annotations

from rbmed_fl.federation import FederatedStrategy


class FedAvg(FederatedStrategy):
    """The base class unchanged: everything is sent, and Flower's FedAvg merges it, weighted by number of examples."""
