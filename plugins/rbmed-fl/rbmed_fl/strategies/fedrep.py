"""FedPer and FedRep: own heads on common features.

Sent and averaged: the features. Stays: the last layers, those that the model declares as `Learner.heads`. With FedPer
(Arivazhagan et al. 2019, arXiv 1912.00818) a client trains both together, as in FedAvg; with one client, it is FedAvg.
With FedRep (Collins et al. 2021, arXiv 2102.07078) it first trains its head for ``head_epochs`` on the received
features, then the features for ``local_epochs`` with that head.

The part that does not train in a phase is bit-identical after it, running statistics included. It is still in training
mode: a head is trained on features normalised with the statistics of the batch, as in their own training. Both phases
follow the learning rate's schedule from the start of a local round to its end. The batches of the second phase are
drawn by the local round's generator after those of the first.
"""

from __future__ import annotations

from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.local_training import LocalRound, train_epochs
from rbmed_fl.params import TrainParams
from rbmed_fl.states import to_cpu
from robustbench_med import Field, Learner
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


class FedRep(FedPer):
    """FedPer whose clients train the head first and then the features."""

    class Params(TrainParams):
        head_epochs: int = Field(
            1, ge=1, description="Passes that train the head on frozen features, before local_epochs on the features."
        )

    def fit(self, classifier: Learner, local_round: LocalRound) -> float:
        """Train the head, then the features; return the mean loss of the features' training."""
        head_params = self.params.model_copy(update={"local_epochs": self.params.head_epochs})
        _train_part(classifier, local_round, head_params, True)
        return _train_part(classifier, local_round, self.params, False)


def _train_part(classifier: Learner, local_round: LocalRound, params: TrainParams, heads: bool) -> float:
    """Train only the heads, or only the layers before them."""
    for name, weight in classifier.named_parameters():
        weight.requires_grad_(name.startswith(classifier.heads) == heads)
    # Layers in training mode update their running statistics whether or not they are trained.
    frozen = {
        name: value
        for name, value in to_cpu(classifier.state_dict()).items()
        if name.startswith(classifier.heads) != heads
    }
    loss = train_epochs(classifier, local_round, params)
    classifier.load_state_dict(classifier.state_dict() | frozen)
    return loss
