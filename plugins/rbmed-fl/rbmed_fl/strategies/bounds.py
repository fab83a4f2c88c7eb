"""The bounds of a federation: local training only, the lower one, and training on all images, the upper one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from rbmed_fl.federation import FederatedStrategy
from robustbench_med import Federated, Learner, Split, TrainJob


class LocalOnly(FederatedStrategy):
    """Nothing is sent. ``personal`` holds each client's complete state.

    ``shared`` is then the average of models trained independently: a complete state, as the interface requires, but a
    poor model. There is no better one for a site that was not in the federation.
    """

    averages = False

    def local_prefixes(self, classifier: Learner) -> tuple[str, ...]:
        """Everything: each state name starts with the empty prefix."""
        return ("",)


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
