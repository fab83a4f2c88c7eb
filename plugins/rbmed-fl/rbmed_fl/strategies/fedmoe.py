"""MedFedPure's personalized mixture of experts (Karami et al. 2025, arXiv 2511.11625).

The features and each expert are averaged over the clients, weighted by n_i / n. The paper does not say whether the
gates (attention networks) are averaged too; its code does so, but only a local gate makes the mixture personal.
"""

from __future__ import annotations

from typing import Literal

from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.params import TrainParams
from robustbench_med import Field, Learner
from robustbench_med.errors import UsageError


class FedMoE(FederatedStrategy):
    """FedAvg of everything but the state named by ``Learner.personal``, which stays with the client."""

    class Params(TrainParams):
        gate: Literal["local", "shared"] = Field(
            "local",
            description="'local': the model's personal part stays with each client; 'shared': averaged like the rest.",
        )

    def local_prefixes(self, classifier: Learner) -> tuple[str, ...]:
        """The classifier's personal prefixes with local gates, nothing with shared ones."""
        if self.params.gate == "shared":
            return ()
        if not classifier.personal:
            raise UsageError(
                f"strategy fedmoe keeps the model's personal part with the client, but {type(classifier).__name__} "
                f"declares none; use a mixture model, 'fedmoe:gate=shared' or 'fedavg'"
            )
        return classifier.personal
