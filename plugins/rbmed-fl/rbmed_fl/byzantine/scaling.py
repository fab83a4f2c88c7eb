"""Updates that outweigh those of the others (Bagdasaryan et al. 2020, arXiv 1807.00459, without their backdoor)."""

from __future__ import annotations

from rbmed_fl.byzantine.base import Malice, Who, scaled
from rbmed_fl.local_training import Turn
from rbmed_fl.option import Number
from rbmed_fl.states import State
from robustbench_med import Field


class Scaling(Malice):
    """Trains honestly and sends ``received + factor * (trained - received)``."""

    class Params(Who):
        """Parameters of `Scaling`."""

        factor: Number = Field(10.0, gt=0, allow_inf_nan=False, description="Length of the update, in honest ones.")

    def distort(self, received: State, sent: State, turn: Turn) -> State:
        """See `Malice`."""
        return scaled(received, sent, self.params.factor)
