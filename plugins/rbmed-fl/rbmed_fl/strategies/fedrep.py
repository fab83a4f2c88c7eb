"""FedRep: own heads on common features, trained one after the other (Collins et al. 2021, arXiv 2102.07078).

Sent and averaged: the features. Stays: the last layers, `Learner.heads`. In a local round a client first trains its
head for ``head_epochs`` on the received features, then the features for ``local_epochs`` with that head.

The part that does not train in a phase is bit-identical after it, running statistics included. It is still in training
mode: a head is trained on features normalised with the statistics of the batch, as in their own training. Both phases
follow the learning rate's schedule from the start of a local round to its end. The batches of the second phase are
drawn by the local round's generator after those of the first.
"""

from __future__ import annotations

from rbmed_fl.local_training import LocalRound, train_epochs
from rbmed_fl.params import TrainParams
from rbmed_fl.states import to_cpu
from rbmed_fl.strategies.fedper import FedPer
from robustbench_med import Field, Learner


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
