"""Wrong labels (Tolpegin et al. 2020, arXiv 2007.08432)."""

from __future__ import annotations

from dataclasses import replace

from rbmed_fl.byzantine.base import Malice
from rbmed_fl.local_training import Turn


class LabelFlip(Malice):
    """Trains honestly on labels that are all wrong: every label is the next class, the last one the first.

    The last class is the highest that the client holds, at least 1: with two classes, 0 and 1 are exchanged. Its loss
    and accuracy in the history are those on the wrong labels.
    """

    def poison(self, turn: Turn) -> Turn:
        """See `Malice`."""
        classes = max(2, int(turn.labels.max()) + 1)
        return replace(turn, labels=(turn.labels + 1) % classes)
