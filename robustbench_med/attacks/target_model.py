"""The target model of every attack: an ordinary module from images to logits.

Any attack library works on it unchanged, because it is a plain differentiable module. The rungs of the access ladder
(`robustbench_med.attacks.access`) differ in its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustbench_med.attacks.features import features
from robustbench_med.attacks.goal import Goal
from robustbench_med.attacks.not_finite import answered
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.attack import TargetModel, margin
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.random import Stream
from robustbench_med.runtime.speed import Speed


class _CountGradient(torch.autograd.Function):
    """Identity that counts the backward passes through it."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, x: Tensor, counter: QueryCounter, rows: Tensor, passes: int, distinct: bool
    ) -> Tensor:
        ctx.counted = (counter, rows, passes, distinct)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        counter, rows, passes, distinct = ctx.counted
        counter.backward(rows, passes, grad, distinct)
        return grad, None, None, None, None


class _Scaled(torch.autograd.Function):
    """Identity whose gradient is multiplied, so that half precision can hold it on its way through a model."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        return grad * ctx.factor, None


@dataclass(frozen=True)
class TargetSettings:
    """What an adversary knows and wants; the same for every call of a target model.

    Attributes:
        pipeline: the deployed system, or a copy that answers the same faster.
        counter: counts the passes; it also holds the labels as the adversary sees them.
        eot: noise draws per call (Expectation over Transformation, Athalye et al. 2018).
        goal: what the adversary wants, and so how it sees labels and logits.
        evasion: how the rung `gate` evades the detector: ``selective``, ``orthogonal`` or ``joint:WEIGHT``.
        stand_in: what the rung `bpda` differentiates in place of the purifier.
        surrogate: the classifier that the rung `transfer` attacks.
        insider: the other clients' classifiers, which the rung `insider` attacks.
        clean: features of clean images that the adversary holds; None where it has none.
        chunk: rows evaluated at once; more are split, and recomputed for the gradient so that memory stays bounded.
        speed: what the passes run in.
    """

    pipeline: Pipeline
    counter: QueryCounter
    eot: int = 1
    goal: Goal = field(default_factory=Goal)
    evasion: str = "orthogonal"
    stand_in: str = "identity"
    surrogate: nn.Module | None = None
    insider: nn.Module | None = None
    clean: Callable[[Sequence[str]], tuple[list[Tensor], Tensor]] | None = None
    chunk: int = 512
    speed: Speed = field(default_factory=Speed)


class PipelineTarget(TargetModel):
    """Base class of the rungs: counts passes, averages noise draws, knows the goal, follows a shrinking batch.

    Args:
        settings: what the adversary knows and wants.
        rng: the defense's noise as this adversary samples it, one stream per image; not the stream that scores. An
            image's noise depends on how many passes it has had, never on the other images of the batch.
        rows: which images of the counter this target model holds.
        start: the worst images found so far, like those of the batch; None where nothing was tried.
    """

    #: The adversary sees the classifier, and so its features.
    sees_classifier = True

    def __init__(
        self, settings: TargetSettings, rng: Stream, rows: Tensor | None = None, start: Tensor | None = None
    ) -> None:
        super().__init__()
        self.settings, self.rng, self.start = settings, rng, start
        self.draws = settings.eot if self.random else 1
        self.rows = torch.arange(len(rng), device=rng.seeds.device) if rows is None else rows
        self.eval()

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Two calls may differ, so that several draws are averaged."""
        return self.settings.pipeline.stochastic

    @property
    def stop_on_success(self) -> bool:  # type: ignore[override]
        """True where a wrong answer here is a wrong answer of the deployed system."""
        return not self.settings.pipeline.stochastic

    def at(self, index: Tensor) -> PipelineTarget:
        """The same target model for some of its images."""
        start = None if self.start is None else self.start[index]
        return type(self)(self.settings, self.rng[index], self.rows[index], start)

    def flexible(self, x: Tensor) -> nn.Module:
        """The same target model for batches of any size; see `robustbench_med.interfaces.TargetModel.flexible`."""
        return Flexible(self, x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) for images in [0, 1], (N, C, H, W): the mean over the draws."""
        logits = self.each(x)
        return logits.squeeze(1) if self.draws == 1 else logits.mean(1)

    def each(self, x: Tensor) -> Tensor:
        """Logits of every draw, (N, draws, K)."""
        if len(x) != len(self.rows):
            raise ValueError(
                f"this target model holds {plural(len(self.rows), 'image')}, not {len(x)}; use "
                "at(index) for a part of them"
            )
        return self._counted_logits(x, self.rng, self.rows)

    def _counted_logits(self, x: Tensor, rng: Stream, rows: Tensor, extra: Tensor | None = None) -> Tensor:
        """The logits of every draw; ``extra`` is given where ``rows`` may name an image several times."""
        counter, draws, speed, distinct = self.settings.counter, self.draws, self.settings.speed, extra is None
        number = counter.forward(rows, draws, distinct)
        x = self._counted_images(x, rows, draws, distinct)
        if self.random:
            rng = rng.moment(number if extra is None else number + extra).repeat(draws)
        with speed.passes(x.device):
            logits = self._all_draws(x, rng, counter.truth[rows]).to(x.dtype)
        if speed.scale != 1:
            logits = _Scaled.apply(logits, speed.scale)
        logits = logits.view(len(x), draws, logits.shape[1])
        counter.record(rows, x, logits.squeeze(1) if draws == 1 else logits.mean(1), distinct)
        return logits

    def _counted_images(self, x: Tensor, rows: Tensor, passes: int, distinct: bool = True) -> Tensor:
        """The images, whose gradient is counted as that of so many passes."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return x
        x = _CountGradient.apply(x, self.settings.counter, rows, passes, distinct)
        scale = self.settings.speed.scale
        return x if scale == 1 else _Scaled.apply(x, 1 / scale)

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> list[Tensor]:
        """As `robustbench_med.interfaces.TargetModel.features`; one pass of each image."""
        if not self.sees_classifier:
            return super().features(x, layers)
        speed = self.settings.speed
        self.settings.counter.forward(self.rows, 1)
        with speed.passes(x.device):
            found = [each.to(x.dtype) for each in self.read(self._counted_images(x, self.rows, 1), layers)]
        return found if speed.scale == 1 else [_Scaled.apply(each, speed.scale) for each in found]

    def read(self, x: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """The features of images, not counted."""
        return features(self.settings.pipeline.classifier, x, layers)

    def clean_features(self, layers: Sequence[str] = ()) -> tuple[list[Tensor], Tensor]:
        """As `robustbench_med.interfaces.TargetModel.clean_features`; the labels as the adversary's goal sees them."""
        if not self.sees_classifier or self.settings.clean is None:
            return super().clean_features(layers)
        found, labels = self.settings.clean(layers)
        return found, self.settings.goal.kinds(labels)

    def kinds(self, y: Tensor) -> Tensor:
        """As `robustbench_med.interfaces.TargetModel.kinds`."""
        return self.settings.goal.kinds(self.settings.counter.truth[self.rows])

    def _all_draws(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The logits of every draw, image-major: (N * draws, K)."""
        if self.draws > 1:
            x, y = x.repeat_interleave(self.draws, 0), y.repeat_interleave(self.draws, 0)
        # From a stream that starts anew each time it is used, since a part may be recomputed.
        return self.in_parts(lambda images, part: self.answer(images, rng[part], y[part]), x)

    def in_parts(self, function: Callable[[Tensor, slice], Tensor], x: Tensor) -> Tensor:
        """``function(x[part], part)`` for parts of at most ``chunk`` rows, recomputed for the gradient."""
        size = self.settings.chunk
        parts = [slice(at, at + size) for at in range(0, max(len(x), 1), size)]
        if len(parts) == 1:
            return function(x, parts[0])
        recompute = torch.is_grad_enabled() and x.requires_grad

        def one(part: slice) -> Tensor:
            if not recompute:
                return function(x[part], part)
            again: Tensor = checkpoint(function, x[part], part, use_reentrant=False, preserve_rng_state=False)
            return again

        return torch.cat([one(part) for part in parts])

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """One draw of the logits, as the adversary sees them, for each row of ``x``; ``y`` are the labels, (N,)."""
        raise NotImplementedError

    def classify(self, x: Tensor, y: Tensor, scores: Tensor | None = None) -> Tensor:
        """The classifier's logits of images with the labels ``y``, (N,), as the adversary sees them.

        ``scores``: where a detector decides, its scores, (N,): an image with one that is NaN has no answer.
        """
        pipeline = self.settings.pipeline
        logits = pipeline.classifier(x)
        finite = logits.isfinite().all(1)
        if scores is not None and pipeline.detector is not None:
            finite = finite & ~scores.isnan()
        return self.seen(logits, y, finite)

    def seen(self, logits: Tensor, y: Tensor, finite: Tensor) -> Tensor:
        """Logits (N, K) of a system as the adversary sees them; where it is not ``finite``, as `answered` says."""
        goal = self.settings.goal
        return answered(goal.logits(logits, y), goal.labels(y), finite)

    def abstain(self, logits: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        """The logits (N, K) as `abstained` changes them where the system rejects; ``scores``: the detector's, (N,)."""
        pipeline = self.settings.pipeline
        if not pipeline.rejects:
            return logits
        assert pipeline.gate is not None
        return abstained(logits, self.settings.goal.labels(y), pipeline.gate.distance(scores))

    def deployed(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """One draw of the deployed system's logits, without a gradient; where it rejects, as `abstain` says."""
        pipeline = self.settings.pipeline
        with torch.no_grad():
            treated = pipeline.treat(x, rng)
            logits = pipeline.answer(x, treated.rows, treated.copies)
            finite = pipeline.finite(logits, treated.rows, treated.copies, treated.scores)
            logits = self.seen(logits, y, finite)
            return self.abstain(logits, y, treated.scores)

    @torch.no_grad()
    def success_rate(self, x: Tensor, y: Tensor, draws: int) -> Tensor:
        """As `robustbench_med.interfaces.TargetModel.success_rate`; a deterministic system is asked once."""
        counter, draws = self.settings.counter, draws if self.settings.pipeline.stochastic else 1
        rng = self.rng.fork("success").moment(counter.forward(self.rows, draws)).repeat(draws)
        truth, y = counter.truth[self.rows].repeat_interleave(draws), y.repeat_interleave(draws)
        logits = self.in_parts(
            lambda images, part: self.observed(images, rng[part], truth[part]), x.repeat_interleave(draws, 0)
        )
        return (logits.argmax(1) != y).view(len(x), draws).float().mean(1)

    def observed(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """One draw of the logits by which this adversary judges its success."""
        return self.deployed(x, rng, y)


class Flexible(nn.Module):
    """A target model for code, mostly of other libraries, that does not say which images it passes.

    A batch of as many images as the model holds is taken to be those, in order. In any other each image is taken for
    a variant of the nearest clean image, of which there may be several.
    """

    def __init__(self, target: PipelineTarget, x: Tensor) -> None:
        super().__init__()
        self.target, self.clean = target, x.detach().flatten(1)
        # Libraries look for a parameter to learn the device.
        self.register_buffer("where", torch.zeros((), device=x.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (M, K) for images (M, C, H, W), any M."""
        if len(x) == len(self.clean):
            logits: Tensor = self.target(x)
            return logits
        nearest = torch.cdist(x.detach().flatten(1).to(self.clean.dtype), self.clean).argmin(1)
        return self.target._counted_logits(
            x, self.target.rng[nearest], self.target.rows[nearest], extra=_occurrence(nearest) * self.target.draws
        ).mean(1)


def _occurrence(rows: Tensor) -> Tensor:
    """How often each entry has occurred before it: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    order = rows.argsort(stable=True)
    place = torch.arange(len(rows), device=rows.device)
    ordered = rows[order]
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    first = torch.where(starts, place, 0).cummax(0).values if len(rows) else place
    return torch.empty_like(place).scatter(0, order, place - first)


def abstained(logits: Tensor, y: Tensor, over: Tensor) -> Tensor:
    """Logits of a system that abstains: a rejected image (``over`` > 0, (N,)) counts as answered correctly, as ``y``.

    The true class's logit is raised until it wins by ``over``, which lets the gradient of a rejected, wrongly answered
    image point to where it is no longer rejected.
    """
    raise_by = torch.where(over > 0, margin(logits, y).clamp_min(0) + over, 0)
    return logits.to(raise_by.dtype).scatter_add(1, y[:, None], raise_by[:, None])
