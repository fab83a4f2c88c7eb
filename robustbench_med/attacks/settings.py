"""How the images of a cell are attacked and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustbench_med.interfaces import Attack
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.runtime.cache import SharedResults
from robustbench_med.runtime.speed import Speed


@dataclass(frozen=True)
class Step:
    """One attack from one rung of the ladder.

    Attributes:
        name: as shown, ``full apgd-100 orthogonal``.
        access: the rung.
        attack: any attack.
        eot: noise draws averaged in each call of the target model.
        evasion: how the rung `gate` keeps the detector quiet.
        follows_gradient: the attack climbs a gradient, so that diagnostics of gradients apply.
    """

    name: str
    access: str
    attack: Attack
    eot: int = 1
    evasion: str = "orthogonal"
    follows_gradient: bool = True


@dataclass(frozen=True)
class Setting:
    """How the images of a cell are attacked and scored.

    Attributes:
        threat: norm, eps, goal.
        steps: attacks, tried in this order; an image that one has broken is not given to the next.
        num_classes: K, for metrics.
        lesion_class: for metrics and for the goals that name the lesion.
        device: where to work.
        seed: of attack, defense and scoring noise, which come from separate streams.
        draws: fresh noise draws each image is scored on; a deterministic pipeline is scored once.
        batch: images per chunk when each is drawn once; chunks shrink as the draws grow.
        budget: what each attack may spend per image.
        surrogate: the classifier that `transfer` attacks.
        stand_in: what `bpda` differentiates in place of the purifier.
        watch: keep the figures that diagnostics need.
        speed: how the attack's passes are sped up.
        shared: where clean predictions and images for transfer are kept for other cells; None keeps none.
        system, borrowed: all that the answers of the deployed system, and of the surrogate, depend on.
    """

    threat: ThreatModel
    steps: Sequence[Step]
    num_classes: int
    lesion_class: int | None
    device: torch.device
    seed: int = 0
    draws: int = 1
    batch: int = 64
    budget: Budget = field(default_factory=Budget)
    surrogate: nn.Module | None = None
    stand_in: str = "identity"
    watch: bool = True
    speed: Speed = field(default_factory=Speed)
    shared: SharedResults | None = None
    system: str = ""
    borrowed: str = ""

    @property
    def goal_class(self) -> int | None:
        """The class on one side of a goal of two sides."""
        return None if self.threat.goal == "untargeted" else self.lesion_class

    def seen(self, labels: Tensor) -> Tensor:
        """Labels as the adversary sees them: whether it is a lesion, for the goals that name it."""
        return labels if self.goal_class is None else (labels == self.goal_class).long()
