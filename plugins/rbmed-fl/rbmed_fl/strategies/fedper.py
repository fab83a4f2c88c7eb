"""FedPer: the last layers stay with the client (Arivazhagan et al. 2019, arXiv 1912.00818).

Sent and averaged: the features. Stays: the last layers, those that the model declares as `Learner.heads`. A client
trains both together, as in FedAvg. With one client, it is FedAvg.
"""

from __future__ import annotations

from rbmed_fl.federation import FederatedStrategy
from robustbench_med import Learner
from robustbench_med.errors import UsageError


class FedPer(FederatedStrategy):
    """FedAvg of the features; each client has its own head."""

    def local_prefixes(self, classifier: Learner) -> tuple[str, ...]:
        """The prefixes of the model's heads.

        Raises:
            UsageError: the model declares none.
        """
        if not classifier.heads:
            raise UsageError(
                f"strategy {type(self).__name__.lower()} keeps the model's last layers with the client, but "
                f"{type(classifier).__name__} declares none (attribute 'heads'); use a model that does, or 'fedavg'"
            )
        return classifier.heads
