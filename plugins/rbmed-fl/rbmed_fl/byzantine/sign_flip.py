"""Updates in the opposite direction (Li et al. 2019, arXiv 1811.03761)."""

from __future__ import annotations

from rbmed_fl.byzantine.base import ByzantineBehaviour, ByzantineParams, scaled
from rbmed_fl.local_training import LocalRound
from rbmed_fl.states import State
from robustbench_med import Field, Number


class SignFlip(ByzantineBehaviour):
    """Trains as usual and sends ``received - factor * (trained - received)``."""

    class Params(ByzantineParams):
        factor: Number = Field(1.0, gt=0, allow_inf_nan=False, description="Factor on the honest update.")

    def poison_update(self, received: State, sent: State, local_round: LocalRound) -> State:
        """See `ByzantineBehaviour`."""
        return scaled(received, sent, -self.params.factor)
