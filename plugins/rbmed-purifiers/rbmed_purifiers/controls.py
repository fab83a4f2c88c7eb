"""Controls: what a system scores when its purifier does nothing."""

from __future__ import annotations

from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.bounded import bounded


class Identity(rbmed.Purifier):
    """Returns the images themselves, whatever the strength.

    A system with it must score exactly as one without purifier; a table in which it does better is wrong.
    """

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """``x``."""
        return x


class ClampPurifier(rbmed.Purifier):
    """Clamps to [0, 1], whatever the strength: for valid images the identity.

    Where it raises robust accuracy, the attack left [0, 1] and the gain of other purifiers is partly this clamp; where
    it lowers clean accuracy, the images were not in [0, 1] to begin with (in normalised space it did half the damage
    that a published table calls the attack's).
    """

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """``x`` clamped to [0, 1]."""
        return bounded(x)
