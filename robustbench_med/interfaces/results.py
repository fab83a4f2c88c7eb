"""What one cell measured, per image, before it is summarised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from statistics import fmean
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustbench_med.interfaces.tasks import Task

#: In place of a class where an answer cannot be used: a logit or a pixel of a purified image is not finite, or the
#: detector's score is NaN. It equals no label, so it is wrong wherever answers are counted.
NOT_FINITE = -2


@dataclass(frozen=True)
class Predictions:
    """The deployed pipeline's answers to a batch, over ``draws`` fresh noise draws (1 where it is deterministic).

    Attributes:
        predictions: int64 (draws, N); `NOT_FINITE` where the answer is not finite. Of a multi-label task sets of
            findings as numbers, `robustbench_med.interfaces.tasks.encode`.
        flagged: bool (draws, N); all False without a detector.
        rejected: bool (draws, N); flagged images of a pipeline that has no purifier.
        scores: float32 (draws, N); NaN without a detector. A detector's own NaN is -inf here: it flags nothing.
        changed: bool (draws, N), the purifier changed the image.
        purified_rmse: float32 (draws, N), root mean square change made by the purifier.
        logits: float32 (draws, N, K) of the findings of a multi-label task, > 0 where one is there; else None.
    """

    predictions: Tensor
    flagged: Tensor
    rejected: Tensor
    scores: Tensor
    changed: Tensor
    purified_rmse: Tensor
    logits: Tensor | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def at(self, rows: Tensor) -> Predictions:
        """The predictions on some of the images, int64 (M,)."""
        return Predictions(**{name: value[:, rows] for name, value in self.tensors.items()})

    @classmethod
    def join(cls, parts: list[Predictions]) -> Predictions:
        """Predictions on consecutive batches as one."""
        return cls(**{name: torch.cat([part.tensors[name] for part in parts], dim=1) for name in parts[0].tensors})

    @property
    def not_finite(self) -> Tensor:
        """bool (draws, N): the answer is not finite, which is wrong (an abstention is an answer)."""
        return (self.predictions == NOT_FINITE) & ~self.rejected

    def correct(self, labels: Tensor) -> Tensor:
        """bool (draws, N): the prediction is correct (clean images: an abstention does not count)."""
        return (self.predictions == labels) & ~self.rejected

    def robust(self, labels: Tensor) -> Tensor:
        """bool (draws, N): correct or abstained (attacked images: an attack needs a wrong, unrejected answer)."""
        return (self.predictions == labels) | self.rejected


@dataclass(frozen=True)
class RungResult:
    """What one attack did from one rung: the only rung of a plain cell, one of several of a ladder.

    Attributes:
        name: the rung as shown.
        access: what the adversary saw.
        attacked: bool (N,), the image was given to this attack (a ladder skips those already broken).
        robust: float32 (N,), share of draws on which the system was robust to everything up to here; 1 where unknown.
        robust_after: float32 (N, rounds), the same after each round of the attack.
        spent_after: int64 (N, rounds), gradients spent by this attack up to the end of each round.
        gradients, queries: int64 (N,), backward and forward passes spent.
        zero, broken, backward_calls: int64 (N,), gradients that were all zero, that were not finite, and all of them.
        first, top: float32 (N,), margin at the attack's first pass and its highest; -inf without any pass.
        probabilities: the target model's answers were probabilities.
        spread: mean difference of largest and smallest logit at the first pass.
        exhausted: the budget ran out.
        repeated: images attacked again in float32, because the faster passes decided differently.
        seconds: wall time.
        reason: why the attack could not run, if so.
    """

    #: Fields that are filled from the attributes of a query counter of the same name.
    PASSES: ClassVar = ("gradients", "queries", "zero", "broken", "backward_calls")
    PER_IMAGE: ClassVar = ("attacked", "robust", "robust_after", "spent_after", *PASSES, "first", "top")

    name: str
    access: str
    attacked: Tensor
    robust: Tensor
    robust_after: Tensor
    spent_after: Tensor
    gradients: Tensor
    queries: Tensor
    zero: Tensor
    broken: Tensor
    backward_calls: Tensor
    first: Tensor
    top: Tensor
    probabilities: bool = False
    spread: float | None = None
    exhausted: bool = False
    repeated: int = 0
    seconds: float = 0.0
    reason: str = ""

    @classmethod
    def empty(cls, name: str, access: str, n: int) -> RungResult:
        """A result of ``n`` images of which none is attacked yet."""
        passes: dict[str, Any] = {field: torch.zeros(n, dtype=torch.int64) for field in cls.PASSES}
        margins: dict[str, Any] = {field: torch.full((n,), -torch.inf) for field in ("first", "top")}
        attacked, robust = torch.zeros(n, dtype=torch.bool), torch.ones(n)
        return cls(
            name, access, attacked, robust, torch.ones(n, 0), torch.zeros(n, 0, dtype=torch.int64), **passes, **margins
        )

    @classmethod
    def not_run(cls, name: str, access: str, robust: Tensor, reason: str = "") -> RungResult:
        """A result without any attack: no image was left, or the attack could not run for a ``reason``."""
        return replace(cls.empty(name, access, len(robust)), robust=robust.clone(), reason=reason)

    def after_round(self, robust: Tensor) -> RungResult:
        """The result after another round, which left these shares of draws, float32 (N,)."""
        return replace(
            self,
            robust=robust.clone(),
            robust_after=torch.cat([self.robust_after, robust[:, None]], 1),
            spent_after=torch.cat([self.spent_after, self.gradients[:, None]], 1),
        )

    def padded(self, rounds: int) -> RungResult:
        """The result with ``rounds`` rounds, of which those that were not needed change nothing."""
        missing = rounds - self.robust_after.shape[1]
        return replace(
            self,
            robust_after=torch.cat([self.robust_after, self.robust[:, None].expand(-1, missing)], 1),
            spent_after=torch.cat([self.spent_after, self.gradients[:, None].expand(-1, missing)], 1),
        )

    def at(self, rows: Tensor) -> RungResult:
        """The result of some of the images, int64 (M,)."""
        images: dict[str, Any] = {name: getattr(self, name)[rows] for name in self.PER_IMAGE}
        return replace(self, **images)

    @classmethod
    def join(cls, parts: list[RungResult]) -> RungResult:
        """The results of one rung on consecutive batches as one."""
        watched = [part for part in parts if part.spread is not None]
        spreads = [part.spread for part in watched if part.spread is not None]
        rounds = max(part.robust_after.shape[1] for part in parts)
        parts = [part.padded(rounds) for part in parts]
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.PER_IMAGE}
        return replace(
            parts[0],
            **joined,
            probabilities=bool(watched) and all(part.probabilities for part in watched),
            spread=fmean(spreads) if spreads else None,
            exhausted=any(part.exhausted for part in parts),
            repeated=sum(part.repeated for part in parts),
            seconds=math.fsum(part.seconds for part in parts),
            reason=next((part.reason for part in parts if part.reason), ""),
        )


@dataclass(frozen=True)
class Outcome:
    """All of a cell's per-image results, on the CPU, in test-set order.

    Attributes:
        labels: int64 (N,); of a multi-label task sets of findings as numbers, like predictions.
        sites: (N,) client of each image.
        patients: (N,) patient of each image.
        clean: predictions on the clean images.
        attacked: predictions on the adversarial images.
        distances: float32 (N,), adversarial distance in the threat model's norm.
        num_classes: K.
        lesion_class: class that sensitivity counts, or None.
        index: int64 (N,), row of each image in the test split.
        rungs: what each attack did; one entry unless the cell is a ladder.
        also: further scorings that were requested, by ``clean_`` or ``attacked_`` and their name: ``attacked_8bit``,
            ``clean_fixed_noise`` and ``attacked_fixed_noise``.
        codes: (N,) the patients as they may be published (`robustbench_med.datasets.test_split`); empty where they are
            not known, and until the cell is over.
        lesions: measurements of the lesions, as in `robustbench_med.interfaces.dataset.Split`; empty where the data set
            has none, and until the cell is over.
        task: of the data set; of a multi-label one where all findings are asked about, else ``multi-class``.
        classes: names of the findings or grades; empty for classes without an order.
        certified: of a cell with certificates, each (N,): ``radius`` and ``p_lower`` float64, as found by randomized
            smoothing; ``held`` bool, the class is right and certified at eps; ``contradicted`` bool, the image was
            broken inside its certified radius. Clean and attacked answers are then the smoothed ones. Empty else.
    """

    labels: Tensor
    sites: tuple[str, ...]
    patients: tuple[str, ...]
    clean: Predictions
    attacked: Predictions
    distances: Tensor
    num_classes: int
    lesion_class: int | None
    index: Tensor
    rungs: tuple[RungResult, ...]
    also: Mapping[str, Predictions] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    lesions: Mapping[str, Tensor] = field(default_factory=dict)
    task: Task = "multi-class"
    classes: tuple[str, ...] = ()
    certified: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def gradients(self) -> Tensor:
        """int64 (N,), backward passes spent on all rungs."""
        return torch.stack([rung.gradients for rung in self.rungs]).sum(0)

    @property
    def queries(self) -> Tensor:
        """int64 (N,), forward passes spent on all rungs."""
        return torch.stack([rung.queries for rung in self.rungs]).sum(0)

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
            index=self.index[rows],
            rungs=tuple(rung.at(rows) for rung in self.rungs),
            also={name: answers.at(rows) for name, answers in self.also.items()},
            codes=tuple(self.codes[i] for i in names) if self.codes else (),
            lesions={name: values[rows] for name, values in self.lesions.items()},
            certified={name: values[rows] for name, values in self.certified.items()},
        )

    @classmethod
    def join(cls, parts: list[Outcome]) -> Outcome:
        """The outcomes of several batches or clients as one."""
        return replace(
            parts[0],
            labels=torch.cat([part.labels for part in parts]),
            sites=sum((part.sites for part in parts), ()),
            patients=sum((part.patients for part in parts), ()),
            clean=Predictions.join([part.clean for part in parts]),
            attacked=Predictions.join([part.attacked for part in parts]),
            distances=torch.cat([part.distances for part in parts]),
            index=torch.cat([part.index for part in parts]),
            rungs=tuple(RungResult.join(list(same)) for same in zip(*(part.rungs for part in parts), strict=True)),
            also={name: Predictions.join([part.also[name] for part in parts]) for name in parts[0].also},
            codes=sum((part.codes for part in parts), ()),
            lesions={name: torch.cat([part.lesions[name] for part in parts]) for name in parts[0].lesions},
            certified={name: torch.cat([part.certified[name] for part in parts]) for name in parts[0].certified},
        )
