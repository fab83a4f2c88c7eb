"""Local training only: the lower bound of a federation."""

from __future__ import annotations

from rbmed_fl.federation import FederatedStrategy
from robustbench_med import Learner


class LocalOnly(FederatedStrategy):
    """Nothing is sent. ``personal`` holds each client's complete state.

    ``shared`` is then the average of models trained independently: a complete state, as the interface requires, but a
    poor model. There is no better one for a site that was not in the federation.
    """

    averages = False

    def local_prefixes(self, classifier: Learner) -> tuple[str, ...]:
        """Everything: each state name starts with the empty prefix."""
        return ("",)
