"""What the adversary wants, and how it sees labels and logits because of it.

Every attack looks for a wrong class among several. A goal states each task in these terms: labels become classes, and
logits those of the classes, so that one attack serves all tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.interfaces.results import NOT_FINITE, Predictions
from robustbench_med.interfaces.tasks import decode
from robustbench_med.interfaces.threat import ThreatModel


@dataclass(frozen=True)
class Goal:
    """Any wrong class: labels and logits are as they are."""

    def labels(self, y: Tensor) -> Tensor:
        """The true classes as the adversary sees them, int64 (N,), of the labels (N,)."""
        return y

    def logits(self, logits: Tensor, y: Tensor) -> Tensor:
        """Logits (N, K) of a system as the adversary sees them, of images with the labels ``y``, (N,)."""
        return logits

    def kinds(self, y: Tensor) -> Tensor:
        """The labels (N,) by which the adversary tells clean images apart whose features it compares."""
        return self.labels(y)

    def classes(self, count: int) -> int:
        """How many classes the adversary sees where the task has ``count``."""
        return count

    def lost(self, predictions: Predictions, y: Tensor) -> Tensor:
        """bool (draws, N): the adversary has what it wants of images with the labels ``y``, on the CPU."""
        return ~predictions.robust(y)


@dataclass(frozen=True)
class Sides(Goal):
    """Over the border between one class and all others.

    Attributes:
        side: the class on the one side.
    """

    side: int

    def labels(self, y: Tensor) -> Tensor:
        """1 on its side, 0 on the other."""
        return (y == self.side).long()

    def logits(self, logits: Tensor, y: Tensor) -> Tensor:
        """(N, 2): the best of the other classes, and this one."""
        others = torch.cat([logits[:, : self.side], logits[:, self.side + 1 :]], 1).amax(1)
        return torch.stack([others, logits[:, self.side]], 1)

    def classes(self, count: int) -> int:
        """Two."""
        return 2

    def lost(self, predictions: Predictions, y: Tensor) -> Tensor:
        """The answer is across the border, not just another class of the same side; one that is not finite is."""
        given = predictions.predictions
        return ((given == NOT_FINITE) | ((given == self.side) != (y == self.side))) & ~predictions.rejected


@dataclass(frozen=True)
class AnyFinding(Goal):
    """Any of several findings answered wrongly; labels are sets of findings, `robustbench_med.interfaces.tasks.encode`.

    The adversary sees one class more than there are findings. Class 0, the true one of every image, is the right
    answer; class k is a wrong answer on finding k, and its logit says by how much. So the margin is that of the finding
    nearest to a wrong answer, a targeted loss is directed at one finding after the other, and the loss ``bce`` raises
    all of them.

    Attributes:
        findings: how many.
    """

    findings: int

    def labels(self, y: Tensor) -> Tensor:
        """0 of every image."""
        return torch.zeros_like(y)

    def logits(self, logits: Tensor, y: Tensor) -> Tensor:
        """(N, 1 + findings): 0, and of each finding its logit, with the sign with which a wrong answer is > 0."""
        wrong = torch.where(decode(y, self.findings), -logits, logits)
        return torch.cat([torch.zeros_like(wrong[:, :1]), wrong], 1)

    def kinds(self, y: Tensor) -> Tensor:
        """The sets of findings."""
        return y

    def classes(self, count: int) -> int:
        """One more."""
        return count + 1


@dataclass(frozen=True)
class FarGrade(Goal):
    """A grade far from the true one, of an ordinal task.

    Attributes:
        grades: how many there are.
        farthest: only the end of the scale that is farther away counts; else every grade more than one away.
    """

    grades: int
    farthest: bool = False

    def least(self, y: Tensor) -> Tensor:
        """How many grades away an answer counts, int64 (N,); more than there are where no answer does."""
        return torch.maximum(y, self.grades - 1 - y) if self.farthest else torch.full_like(y, 2)

    def possible(self, y: Tensor) -> Tensor:
        """bool (N,): there is such a grade."""
        return torch.maximum(y, self.grades - 1 - y) >= self.least(y)

    def labels(self, y: Tensor) -> Tensor:
        """0 of every image."""
        return torch.zeros_like(y)

    def logits(self, logits: Tensor, y: Tensor) -> Tensor:
        """(N, 2): the best of the grades that are near enough, and the best of the others."""
        away = (torch.arange(self.grades, device=y.device) - y[:, None]).abs() >= self.least(y)[:, None]
        near, far = logits.masked_fill(away, -torch.inf).amax(1), logits.masked_fill(~away, -torch.inf).amax(1)
        far = torch.where(away.any(1), far, near - 1)  # without such a grade no image is broken
        return torch.stack([near, far], 1)

    def kinds(self, y: Tensor) -> Tensor:
        """The grades."""
        return y

    def classes(self, count: int) -> int:
        """Two."""
        return 2

    def lost(self, predictions: Predictions, y: Tensor) -> Tensor:
        """The answer is so far away; one that is not finite is."""
        given = predictions.predictions
        return ((given == NOT_FINITE) | ((given - y).abs() >= self.least(y))) & ~predictions.rejected


def goal_of(threat: ThreatModel, num_classes: int, lesion_class: int | None, findings: int) -> Goal:
    """The goal of a threat model.

    Args:
        threat: the threat model.
        num_classes: of the task.
        lesion_class: for the goals that name the lesion.
        findings: of a multi-label task where all are asked about; else 0.
    """
    if findings:
        return AnyFinding(findings)
    if threat.goal in ("distant", "farthest"):
        return FarGrade(num_classes, threat.goal == "farthest")
    return Goal() if threat.goal == "untargeted" or lesion_class is None else Sides(lesion_class)
