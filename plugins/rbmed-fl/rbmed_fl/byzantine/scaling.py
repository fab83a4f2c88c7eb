"""Updates that outweigh those of the others (Bagdasaryan et al. 2020, arXiv 1807.00459, without their backdoor)."""

from __future__ import annotations

from rbmed_fl.byzantine.base import ByzantineBehaviour, ByzantineParams, scaled
from rbmed_fl.local_training import LocalRound
from rbmed_fl.states import State
from robustbench_med import Field, Number


class Scaling(ByzantineBehaviour):
    """Trains as usual and sends ``received + factor * (trained - received)``."""

    class Params(ByzantineParams):
        factor: Number = Field(10.0, gt=0, allow_inf_nan=False, description="Factor on the honest update.")

    def poison_update(self, received: State, sent: State, local_round: LocalRound) -> State:
        """See `ByzantineBehaviour`."""
        return scaled(received, sent, self.params.factor)
