"""Centralized training on all images: the upper bound of a federation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from rbmed_fl.federation import FederatedStrategy
from robustbench_med import Federated, Learner, Split, TrainJob


class Centralized(FederatedStrategy):
    """A federation of one client with all images, for the same number of epochs. No privacy."""

    averages = False

    def train(self, build: Callable[[], Learner], clients: Mapping[str, Split], job: TrainJob) -> Federated:
        """See `robustbench_med.Strategy.train`; the clients' images are copied into one tensor."""
        return super().train(build, {"pooled": pool(clients)} if clients else {}, job)


def pool(clients: Mapping[str, Split]) -> Split:
    """All clients' images in one split, clients in the order given; masks and counterfactuals are left out."""
    parts = list(clients.values())
    return Split(
        images=torch.cat([part.images for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        patients=tuple(patient for part in parts for patient in part.patients),
        sites=tuple(site for part in parts for site in part.sites),
    )
