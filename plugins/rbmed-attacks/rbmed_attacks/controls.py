"""Controls: what is lost without any attack. A control that lowers accuracy casts doubt on the other attacks."""

from __future__ import annotations

from torch import Tensor

from rbmed_attacks.norms import in_ball, on_sphere
from robustbench_med import Attack, Budget, Stream, TargetModel, ThreatModel


class Noise(Attack):
    """Random noise of the threat model's size, clamped to [0, 1]; makes no query.

    Linf: every pixel uniform in [-eps, eps]. L2: a uniformly random direction of length eps. L1: normal noise, shrunk
    towards 0 until its length is eps.
    """

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Noisy images like ``x``."""
        return in_ball(threat, x, rng) if threat.norm == "linf" else on_sphere(threat, x, rng)


class ClampControl(Attack):
    """The images, clamped to [0, 1] and otherwise as they are: scores must equal the clean ones."""

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """``x``, clamped."""
        return x.clamp(0, 1)
