"""Checks of a deployed system without any attack: its weights, and what its answers must not depend on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.accelerate import accelerated_pipeline
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import described
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.random import Stream, seed_of
from robustbench_med.runtime.isolation import isolated

#: Images of a client that are answered in several batches, and those of them that are also answered alone.
BATCH, ALONE = 8, 4
#: Difference that rounding may make, as a share of the range of the values in the batch.
TOLERANCE = 0.001
#: Largest change of a pixel by the noise with which passes are compared.
NOISE = 4 / 255
#: Draws of a classifier that draws noise, whose means are compared, and how many standard errors may lie between them.
DRAWS, ERRORS = 16, 6.0
#: As `TOLERANCE`, of the copy that attacks work on: of half precision, folded layers leave two digits.
COPY_TOLERANCE = 0.05


@dataclass
class Compared:
    """What came of the comparison: images compared, changed by a repetition, and changed by another batch."""

    images: int
    unstable: int
    dependent: int
    notes: list[str]


@dataclass
class Modes:
    """What came of the comparison of passes: images compared, answered otherwise when attacked, and what failed."""

    images: int
    differ: int
    notes: list[str]


@dataclass(frozen=True)
class _Answers:
    """Logits (N, K), scores (N,) and what is flagged, (N,)."""

    logits: Tensor
    scores: Tensor
    flagged: Tensor

    def at(self, rows: Tensor) -> _Answers:
        return _Answers(self.logits[rows], self.scores[rows], self.flagged[rows])

    def differ(self, other: _Answers, scale: _Answers, tolerance: float = TOLERANCE) -> Tensor:
        """Which images have other answers than rounding explains, bool (N,); ``scale`` are those of the whole batch.

        An image whose score lies so near the threshold that rounding decides is not counted.
        """
        scores = _apart(self.scores[:, None], other.scores[:, None], scale.scores, tolerance)
        logits = _apart(self.logits, other.logits, scale.logits, tolerance)
        return scores | (logits & (self.flagged == other.flagged))


def bad_tensors(pipeline: Pipeline) -> list[str]:
    """Names of parameters that are not finite, and of buffers with a NaN (an infinite one may be meant: a mask)."""
    bad = [name for name, tensor in pipeline.named_parameters() if not tensor.isfinite().all()]
    return bad + [name for name, tensor in pipeline.named_buffers() if tensor.isnan().any()]


def gate_without_gradient(pipeline: Pipeline, split: Split, index: Tensor, settings: EvaluationSettings) -> bool:
    """Whether a rung needs the gradient of a detector's score that has none, though it depends on the image.

    Looked at on one image and a darker one.
    """
    if pipeline.detector is None or pipeline.gate is None or not len(split):
        return False
    if not any(rung.access == "full" and rung.follows_gradient for rung in settings.rungs):
        return False
    x = split.images[:1].to(settings.device).requires_grad_()

    def score(image: Tensor) -> Tensor:
        stream = Stream.named("controls", settings.seed, index[:1].to(settings.device))
        with torch.enable_grad(), isolated(seed_of(settings.seed, "controls")):
            return pipeline.score(image, stream)

    found = score(x)
    return not found.requires_grad and not torch.equal(found, score(x.detach().square()))


def compare_batches(pipeline: Pipeline, split: Split, index: Tensor, settings: EvaluationSettings) -> Compared:
    """Answer some images together, again, in reverse order, and alone, with the same noise for each image.

    Not for a classifier that draws noise: its noise follows the batch.
    """
    few = min(BATCH, len(split))
    rows = torch.arange(few) * len(split) // few
    x, ids = split.images[rows].to(settings.device), index[rows].to(settings.device)
    rng = Stream.named("scoring", settings.seed, ids)

    def answers(which: Tensor, seed: str = "controls") -> _Answers:
        with isolated(seed_of(settings.seed, seed)), torch.inference_mode():
            treated = pipeline.treat(x[which], rng[which].moment(0))
            logits = pipeline.answer(treated.images, treated.rows, treated.copies)
            return _Answers(logits, treated.scores, treated.flagged)

    every = torch.arange(len(rows), device=settings.device)
    together = answers(every)
    unstable = together.differ(answers(every, "controls again"), together)
    if unstable.any():  # then another answer says nothing about the batch
        return Compared(len(rows), int(unstable.sum()), 0, [])
    changed = together.differ(answers(every.flip(0)).at(every.flip(0)), together)
    notes = []
    for row in every[:ALONE]:
        try:
            alone = answers(row[None])
        except Exception as error:  # noqa: BLE001 -- a system that cannot answer a single image depends on the batch
            changed[row] = True
            notes.append(
                f"a single image is not answered: {type(error).__name__}: {' '.join(str(error).split())}"[:200]
            )
            break
        changed[row] |= together.at(row[None]).differ(alone, together)[0]
    return Compared(len(rows), 0, int(changed.sum()), notes)


def compare_modes(pipeline: Pipeline, split: Split, index: Tensor, settings: EvaluationSettings) -> Modes:
    """Answer some images, as they are and with noise, as they are scored and as attacks ask for them.

    Scores are made in inference mode, passes of attacks with or without a gradient and by a copy: a system that
    answers otherwise there has another system attacked in its place. Of a classifier that draws noise, means are
    compared, since a pass with a gradient may draw its noise in another order.
    """
    few = min(ALONE, len(split))
    rows = torch.arange(few) * len(split) // few
    x, ids = split.images[rows].to(settings.device), index[rows].to(settings.device)
    rng = Stream.named("scoring", settings.seed, ids)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    noisy = (x + NOISE * (2 * noise - 1)).clamp(0, 1)
    random = pipeline.classifier.stochastic

    def answers(system: Pipeline, given: Tensor, gradient: bool) -> list[_Answers]:
        found = []
        for draw in range(DRAWS if random else 1):
            asked = given.clone().requires_grad_(gradient)
            seed = seed_of(settings.seed, f"controls:{draw}" if draw else "controls")
            with isolated(seed), torch.set_grad_enabled(gradient):
                treated = system.treat(asked, rng.moment(draw))
                logits = system.answer(asked, treated.rows, treated.copies)
                found.append(_Answers(logits.detach(), treated.scores.detach(), treated.flagged))
        return found

    changed = torch.zeros(few, dtype=torch.bool, device=settings.device)
    try:
        copy = accelerated_pipeline(pipeline)
        for images in (x, noisy):
            with torch.inference_mode():
                scored = answers(pipeline, images, False)
            for system, tolerance in ((pipeline, TOLERANCE), (copy, COPY_TOLERANCE)):
                for gradient in (False, True):
                    asked = answers(system, images, gradient)
                    if random:
                        changed |= _means_apart(scored, asked)
                    else:
                        changed |= scored[0].differ(asked[0], scored[0], tolerance)
    except Exception as error:  # noqa: BLE001 -- the attacks say so themselves where they need it
        return Modes(few, int(changed.sum()), [f"no answer outside inference mode: {described(error)}"[:200]])
    return Modes(few, int(changed.sum()), [])


def _means_apart(one: list[_Answers], other: list[_Answers]) -> Tensor:
    """Which images have other logits in the mean than chance explains, bool (N,)."""
    first, second = (torch.stack([draw.logits.double() for draw in draws]) for draws in (one, other))
    error = ((first.var(0) + second.var(0)) / len(one)).sqrt()
    slack = COPY_TOLERANCE * (first.amax() - first.amin())
    apart: Tensor = (first.mean(0) - second.mean(0)).abs() > ERRORS * error + slack
    return apart.any(1)


def _apart(one: Tensor, other: Tensor, scale: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Which rows of (N, K) differ by more than rounding, bool (N,); values that are not finite must be the same."""
    known = scale[scale.isfinite()]
    slack = tolerance * float(known.max() - known.min()) + 1e-6 if len(known) else 0.0
    same = (one == other) | (one.isnan() & other.isnan()) | ((one - other).abs() <= slack)
    return (~same).any(1)
