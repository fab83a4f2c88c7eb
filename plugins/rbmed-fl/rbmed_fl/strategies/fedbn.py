"""FedBN: batch normalisation stays with the client (Li et al. 2021, arXiv 2102.07623).

Sent and averaged: everything but the batch-norm layers. Stays: scale, shift and running statistics of each of them, so
that every client normalises with the statistics of its own scanner. Clients train as in FedAvg. With one client, it is
FedAvg.
"""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from rbmed_fl.federation import FederatedStrategy
from robustbench_med import Learner
from robustbench_med.errors import UsageError


class FedBN(FederatedStrategy):
    """FedAvg of everything but batch normalisation."""

    def local_prefixes(self, classifier: Learner) -> tuple[str, ...]:
        """The prefixes of all batch-norm layers.

        Raises:
            UsageError: the model has none.
        """
        layers = tuple(f"{name}." for name, part in classifier.named_modules() if isinstance(part, _BatchNorm))
        if not layers:
            raise UsageError(
                f"strategy fedbn keeps batch normalisation with the client, but {type(classifier).__name__} has none; "
                f"use a model with batch normalisation, or 'fedavg'"
            )
        return layers
