"""How the images of a cell are attacked and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustbench_med.attacks.goal import Goal, goal_of
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.rung import Rung
from robustbench_med.certification.settings import Certification
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.tasks import Task
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.runtime.cache import SharedResults
from robustbench_med.runtime.speed import Speed


@dataclass(frozen=True)
class EvaluationSettings:
    """How the images of a cell are attacked and scored.

    Attributes:
        threat: norm, eps, goal.
        rungs: attacks, run in this order; an image that one has broken is not given to the next.
        num_classes: K, for metrics and goals.
        lesion_class: for metrics and for the goals that name the lesion.
        device: where to work.
        seed: of attack, defense and scoring noise, which come from separate streams.
        draws: fresh noise draws each image is scored on; a deterministic pipeline is scored once.
        batch: images per chunk when each is drawn once; chunks shrink as the draws grow.
        budget: what each attack may spend per image.
        surrogate: the classifier that `transfer` attacks.
        insider: the other clients' classifiers, which `insider` attacks.
        clean: opens clean training images of the client, for attacks that compare features; None: there are none.
        stand_in: what `bpda` differentiates in place of the purifier.
        watch: keep the figures that diagnostics need.
        speed: how the attack's passes are sped up.
        score_8bit: adversarial images are also scored when rounded to 8 bits.
        score_fixed_noise: images are also scored with one noise for all, where the system is random.
        shared: where clean predictions and images for transfer are kept for other cells; None keeps none.
        task: of the data set.
        classes: names of its classes, for metrics of tasks that are not multi-class.
        certification: how much is drawn for certificates; attacks are then judged by the smoothed answer. None: no.
        system_key, surrogate_key: all that the answers of the deployed system, and of the surrogate, depend on.
    """

    threat: ThreatModel
    rungs: Sequence[Rung]
    num_classes: int
    lesion_class: int | None
    device: torch.device
    seed: int = 0
    draws: int = 1
    batch: int = 64
    budget: Budget = field(default_factory=Budget)
    surrogate: nn.Module | None = None
    insider: nn.Module | None = None
    clean: Callable[[], Split] | None = None
    stand_in: str = "identity"
    watch: bool = True
    speed: Speed = field(default_factory=Speed)
    score_8bit: bool = False
    score_fixed_noise: bool = False
    shared: SharedResults | None = None
    certification: Certification | None = None
    system_key: str = ""
    surrogate_key: str = ""
    task: Task = "multi-class"
    classes: tuple[str, ...] = ()

    @property
    def goal(self) -> Goal:
        """What the adversary wants."""
        findings = self.num_classes if self.task == "multi-label" else 0
        return goal_of(self.threat, self.num_classes, self.lesion_class, findings)

    def counter(self, x: Tensor, y: Tensor) -> QueryCounter:
        """A fresh counter for an attack on images (N, C, H, W) with labels (N,), which it sees as its goal does."""
        return QueryCounter(x, self.goal.labels(y), self.threat, self.budget, self.watch, y)
