"""What one cell measured, per image, before it is summarised."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Verdicts:
    """The deployed pipeline's answers to a batch, over ``draws`` fresh noise draws (1 where it is deterministic).

    Attributes:
        predictions: int64 (draws, N).
        flagged: bool (draws, N); all False without a detector.
        rejected: bool (draws, N); flagged images of a pipeline that has no purifier.
        scores: float32 (draws, N); NaN without a detector.
        changed: bool (draws, N), the purifier changed the image.
        purified_rmse: float32 (draws, N), root mean square change made by the purifier.
    """

    predictions: Tensor
    flagged: Tensor
    rejected: Tensor
    scores: Tensor
    changed: Tensor
    purified_rmse: Tensor

    def at(self, rows: Tensor) -> Verdicts:
        """The verdicts on some of the images, int64 (M,)."""
        return Verdicts(*(getattr(self, field.name)[:, rows] for field in fields(self)))

    @classmethod
    def join(cls, parts: list[Verdicts]) -> Verdicts:
        """Verdicts on consecutive batches as one."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts], dim=1) for field in fields(cls)))

    def right(self, labels: Tensor) -> Tensor:
        """bool (draws, N): the right answer was given (clean images: a withheld answer helps nobody)."""
        return (self.predictions == labels) & ~self.rejected

    def safe(self, labels: Tensor) -> Tensor:
        """bool (draws, N): right or withheld (attacked images: the attack needs a wrong, unrejected answer)."""
        return (self.predictions == labels) | self.rejected


@dataclass(frozen=True)
class Outcome:
    """All of a cell's per-image results, on the CPU, in test-set order.

    Attributes:
        labels: int64 (N,).
        sites: (N,) client of each image.
        patients: (N,) patient of each image.
        clean: verdicts on the clean images.
        attacked: verdicts on the adversarial images.
        distances: float32 (N,), adversarial distance in the threat model's norm.
        gradients: int64 (N,), forward-backward passes spent.
        queries: int64 (N,), forward passes spent.
        num_classes: K.
        lesion_class: class that sensitivity counts, or None.
        index: int64 (N,), row of each image in the test split.
    """

    labels: Tensor
    sites: tuple[str, ...]
    patients: tuple[str, ...]
    clean: Verdicts
    attacked: Verdicts
    distances: Tensor
    gradients: Tensor
    queries: Tensor
    num_classes: int
    lesion_class: int | None
    index: Tensor

    def at(self, site: str) -> Outcome:
        """The images of one client."""
        rows = torch.tensor([i for i, name in enumerate(self.sites) if name == site], dtype=torch.int64)
        names = rows.tolist()
        return replace(
            self,
            labels=self.labels[rows],
            sites=tuple(self.sites[i] for i in names),
            patients=tuple(self.patients[i] for i in names),
            clean=self.clean.at(rows),
            attacked=self.attacked.at(rows),
            distances=self.distances[rows],
            gradients=self.gradients[rows],
            queries=self.queries[rows],
            index=self.index[rows],
        )
