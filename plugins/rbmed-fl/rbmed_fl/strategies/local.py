"""Local training only: what each client reaches without a federation."""

from __future__ import annotations

from rbmed_fl.federation import Federation
from robustbench_med import Learner


class Local(Federation):
    """Nothing is sent. ``personal`` holds each client's complete state.

    ``shared`` is then the average of models that never met: a complete state, as the interface asks for, and a poor
    model. A client the federation never saw has nothing better.
    """

    def keeps(self, classifier: Learner) -> tuple[str, ...]:
        """Everything: each state name starts with the empty prefix."""
        return ("",)
