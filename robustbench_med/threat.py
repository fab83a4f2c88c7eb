"""What the adversary may do (`ThreatModel`), how much work it may spend (`Budget`), and the check of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_med.errors import OutsideThreatModel, UsageError
from robustbench_med.specs import NORMS

if TYPE_CHECKING:
    from torch import Tensor

#: Rungs of the access ladder that this version can measure, cheapest first.
ACCESS = ("oblivious", "bpda")
#: Rungs that the protocol names and that this version cannot measure yet.
ACCESS_PLANNED = ("full", "gate", "query", "transfer")


@dataclass(frozen=True)
class Budget:
    """How much an attack may spend on one image. ``None`` means no limit.

    Attributes:
        gradients: forward-backward passes per image; each EOT draw counts.
        queries: forward passes per image; each EOT draw counts.
    """

    gradients: int | None = None
    queries: int | None = None


@dataclass(frozen=True)
class ThreatModel:
    """What the adversary may do.

    Attributes:
        norm: ``linf`` or ``l2``, measured in pixel space with images in [0, 1].
        eps: radius of the ball, > 0 (``4/255`` for Linf; L2 is over the whole image).
        access: what the adversary sees, a rung of the access ladder.
        goal: ``untargeted``: any wrong answer counts.
    """

    norm: str = "linf"
    eps: float = 4 / 255
    access: str = "oblivious"
    goal: str = "untargeted"

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UsageError(f"unknown norm {self.norm!r}; valid: {', '.join(NORMS)}")
        if not (math.isfinite(self.eps) and self.eps > 0):
            raise UsageError(f"eps must be a finite number > 0, not {self.eps!r}")
        if self.access in ACCESS_PLANNED:
            raise UsageError(f"access {self.access!r} is not available in this version; valid: {', '.join(ACCESS)}")
        if self.access not in ACCESS:
            raise UsageError(f"unknown access {self.access!r}; valid: {', '.join(ACCESS)}")

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance per image, shape (N,), between two batches of shape (N, C, H, W)."""
        delta = (a - b).flatten(1)
        return delta.abs().amax(1) if self.norm == "linf" else delta.norm(dim=1)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest images to ``x_adv`` (Linf: exactly; L2: scaled towards ``x``) inside the ball and [0, 1]."""
        delta = x_adv - x
        if self.norm == "linf":
            delta = delta.clamp(-self.eps, self.eps)
        else:
            length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
            delta = delta * (self.eps / length).clamp_max(1).view(-1, *[1] * (x.dim() - 1))
        return (x + delta).clamp(0, 1)

    def check(self, x_adv: Tensor, x: Tensor, tolerance: float = 1e-5) -> None:
        """Raise `OutsideThreatModel` if any image is not finite, or outside the ball or the range [0, 1].

        ``tolerance`` covers float32 rounding: absolute for Linf and the range, relative to eps for L2.
        """
        if x_adv.shape != x.shape:
            raise OutsideThreatModel(f"the attack returned shape {tuple(x_adv.shape)} for images of {tuple(x.shape)}")
        slack = tolerance if self.norm == "linf" else tolerance * max(1.0, self.eps)
        bad = ~x_adv.flatten(1).isfinite().all(1)
        if bad.any():
            raise OutsideThreatModel(f"{int(bad.sum())} adversarial images hold values that are not finite")
        low, high = float(x_adv.min()), float(x_adv.max())
        if low < -tolerance or high > 1 + tolerance:
            raise OutsideThreatModel(f"adversarial images span [{low:.4g}, {high:.4g}], outside [0, 1]")
        worst = float(self.distance(x_adv, x).max())
        if worst > self.eps + slack:
            raise OutsideThreatModel(f"an image lies {worst:.4g} away in {self.norm}, eps is {self.eps:.4g}")
