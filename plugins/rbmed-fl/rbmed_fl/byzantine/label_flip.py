"""Wrong labels (Tolpegin et al. 2020, arXiv 2007.08432)."""

from __future__ import annotations

from dataclasses import replace

from rbmed_fl.byzantine.base import ByzantineBehaviour
from rbmed_fl.local_training import LocalRound


class LabelFlip(ByzantineBehaviour):
    """Trains as usual on labels that are all wrong: every label becomes the next class, the last one the first.

    The last class is the highest that the client holds, at least 1: with two classes, 0 and 1 are exchanged. Its loss
    and accuracy in the history are measured on the wrong labels. Of findings, each is turned into its opposite.
    """

    def poison_data(self, local_round: LocalRound) -> LocalRound:
        """See `ByzantineBehaviour`."""
        classes = max(2, int(local_round.labels.max()) + 1)
        return replace(local_round, labels=(local_round.labels + 1) % classes)
