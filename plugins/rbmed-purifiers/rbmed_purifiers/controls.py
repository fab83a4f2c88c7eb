"""Controls: purifiers that change nothing, to measure a system without purification."""

from __future__ import annotations

from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.bounded import bounded


class Identity(rbmed.Purifier):
    """Returns the images themselves, whatever the strength.

    A system with it must score exactly as one without purifier; a table in which it is better is wrong.
    """

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """``x``."""
        return x


class ClampPurifier(rbmed.Purifier):
    """Clamps to [0, 1], whatever the strength: for valid images the identity.

    If it raises robust accuracy, the attack left [0, 1], and part of the gain of other purifiers is this clamp. If it
    lowers clean accuracy, the images were not in [0, 1]; in normalised space it caused half of the loss that a
    published table attributes to the attack.
    """

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """``x`` clamped to [0, 1]."""
        return bounded(x)
