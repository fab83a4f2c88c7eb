"""The deployed system: classifier + optional detector + optional purifier + gate, as one module.

Images go in, a decision comes out; labels never go in. Every step treats each image by itself, so a decision does not
depend on what else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.defenses.interface_checks import Conduct, checked_logits
from robustbench_med.errors import HarnessError
from robustbench_med.interfaces.defense import Detector, Purifier, System
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import NOT_FINITE, Predictions
from robustbench_med.interfaces.tasks import encode
from robustbench_med.interfaces.training import Classifier
from robustbench_med.plugins.calls import named, naming

#: `Gate.distance` is linear up to about 1 / LINEAR of the way from the lowest clean score to the threshold.
LINEAR = 10.0


@dataclass(frozen=True)
class Gate:
    """When an image is flagged, and how strongly a flagged image is purified; fixed on clean calibration images.

    Attributes:
        threshold: scores above it are flagged.
        low: score that maps to strength 0.
        high: score that maps to strength 1.
        absent: classes that had no calibration image.
        images: number of calibration images; 0 where that was not kept.
        uncapped: the threshold for the asked share of false alarms, where it was lowered (`Detector.reach`).
    """

    threshold: float
    low: float
    high: float
    absent: tuple[int, ...] = ()
    images: int = 0
    uncapped: float | None = None

    def distance(self, scores: Tensor) -> Tensor:
        """How far scores (N,) lie over the threshold, (N,): 0 there, and rising everywhere.

        Scores of attacked images may be thousands of times the threshold. Hence above it the distance grows by 1 for
        each factor e, while among the clean scores, which may be negative, it is nearly linear.
        """
        scale = LINEAR / max(self.threshold - self.low, 1e-12)
        return torch.asinh(scale * (scores - self.low)) - math.asinh(scale * (self.threshold - self.low))

    def strength(self, scores: Tensor) -> Tensor:
        """Purification strength in [0, 1], shape (N,)."""
        return ((scores - self.low) / max(self.high - self.low, 1e-12)).clamp(0, 1)


@dataclass(frozen=True)
class Treated:
    """Images after the gate.

    Attributes:
        images: (N, C, H, W), as they came.
        rows: int64 (F,), the images that were purified.
        copies: (F, votes, C, H, W), what the classifier sees in their place.
        scores: (N,), NaN without a detector.
        flagged: bool (N,).
        rejected: bool (N,), flagged by a pipeline that has no purifier.
    """

    images: Tensor
    rows: Tensor
    copies: Tensor
    scores: Tensor
    flagged: Tensor
    rejected: Tensor


def others(rows: Tensor, total: int) -> Tensor:
    """The numbers 0 .. total - 1 without ``rows``, which are different, ascending; nothing waits for the device."""
    left = torch.ones(total, dtype=torch.uint8, device=rows.device).index_fill(0, rows, 0)
    return left.argsort(descending=True, stable=True)[: total - len(rows)]


class Pipeline(nn.Module):
    """A client's deployed system.

    Args:
        classifier: images in [0, 1] -> logits.
        detector: scores images; None sends every image to the purifier.
        purifier: cleans flagged images; with a detector and no purifier, flagged images are rejected.
        gate: threshold and strength map; needed exactly when there is a detector.
        strength: of every purification, in [0, 1]; None: the gate's, and 1 without a gate.
        findings: the classifier has a logit for each of several findings, > 0 where it is there; else for each class.
    """

    def __init__(
        self,
        classifier: Classifier,
        detector: Detector | None = None,
        purifier: Purifier | None = None,
        gate: Gate | None = None,
        strength: float | None = None,
        findings: bool = False,
    ) -> None:
        super().__init__()
        if (detector is None) != (gate is None):
            raise ValueError("a detector needs a gate and a gate needs a detector")
        self.classifier = classifier
        self.detector = detector
        self.purifier = purifier
        self.gate = gate
        self.strength = strength
        self.findings = findings
        self.eval()
        self.requires_grad_(False)

    @property
    def stochastic(self) -> bool:
        """Two calls on the same image may differ."""
        parts = (self.classifier, self.detector, self.purifier)
        return any(part is not None and part.stochastic for part in parts)

    @property
    def rejects(self) -> bool:
        """Flagged images get no answer."""
        return self.detector is not None and self.purifier is None

    @property
    def defended(self) -> bool:
        """There is more than the classifier."""
        return self.detector is not None or self.purifier is not None

    def score(self, x: Tensor, rng: Stream) -> Tensor:
        """The detector's scores, float32 (N,).

        Raises:
            HarnessError: the detector returns something else than a number for each image.
        """
        if self.detector is None:
            return x.new_full((len(x),), float("nan"))
        with naming("detector", self.detector):
            made: Any = self.detector.score(x, System(self.classifier, self.purifier), rng.fork("detector"))
        if not isinstance(made, Tensor) or made.shape != x.shape[:1] or not made.is_floating_point():
            told = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
            raise HarnessError(
                f"{named('detector', self.detector)} returned {told} for {plural(len(x), 'image')}, not "
                "a score for each"
            )
        if made.device != x.device:
            raise HarnessError(f"{named('detector', self.detector)} returned scores on {made.device}, not {x.device}")
        return made.float() if made.dtype in (torch.float16, torch.bfloat16) else made

    def purified(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        """The purified copies of images (N, C, H, W), (N, votes, C, H, W), in the type of the images.

        Raises:
            HarnessError: the purifier returns something else.
        """
        assert self.purifier is not None
        who = named("purifier", self.purifier)
        with naming("purifier", self.purifier):
            made: Any = self.purifier.copies(x, strength, rng)
        shape = (len(x), self.purifier.votes, *x.shape[1:])
        if not isinstance(made, Tensor) or tuple(made.shape) != shape:
            told = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
            raise HarnessError(
                f"{who} returned {told} for {plural(shape[1], 'copy', 'copies')} of images of {tuple(x.shape)}"
            )
        if made.is_complex() or made.layout != torch.strided or made.device != x.device:
            told = f"{made.dtype}, {made.layout}, on {made.device}"
            raise HarnessError(f"{who} returned images in {told}; valid: real, dense and on {x.device}")
        return made.to(x.dtype)

    def flags(self, scores: Tensor) -> Tensor:
        """Which images are flagged, bool (N,); needs a gate."""
        assert self.gate is not None
        return scores > self.gate.threshold

    def strengths(self, scores: Tensor) -> Tensor:
        """How strongly images with these scores, (N,), are purified: in [0, 1], (N,)."""
        if self.gate is None or self.strength is not None:
            return torch.full_like(scores, 1.0 if self.strength is None else self.strength)
        return self.gate.strength(scores)

    def treat(self, x: Tensor, rng: Stream) -> Treated:
        """Score the images and purify (or reject) the flagged ones."""
        scores = self.score(x, rng)
        if self.gate is None:
            flagged = torch.full((len(x),), self.purifier is not None, device=x.device)
        else:
            flagged = self.flags(scores)
        every, copies = torch.arange(len(x), device=x.device), x[:0].unsqueeze(1)
        if self.purifier is None:
            return Treated(x, every[:0], copies, scores, flagged, rejected=flagged)
        # The only value that is read back from the device: how many images are purified.
        rows = every if self.gate is None else flagged.nonzero().flatten()
        if len(rows):
            copies = self.purified(x[rows], self.strengths(scores[rows]), rng.fork("purifier")[rows])
        return Treated(x, rows, copies, scores, flagged, rejected=torch.zeros_like(flagged))

    def forward(self, x: Tensor, rng: Stream) -> Tensor:
        """Logits (N, K) of the deployed system for images in [0, 1], shape (N, C, H, W)."""
        treated = self.treat(x, rng)
        return self.answer(x, treated.rows, treated.copies)

    def logits(self, x: Tensor) -> Tensor:
        """The classifier's logits (N, K); raises `HarnessError` where it returns something else."""
        with naming("classifier", self.classifier):
            logits = self.classifier(x)
        return checked_logits(logits, self.classifier, len(x))

    def answer(
        self, x: Tensor, rows: Tensor, copies: Tensor, classify: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Logits (N, K) of images (N, C, H, W), of which ``rows`` are answered by their ``copies``.

        Args:
            x: the images.
            rows: int64 (F,), ascending.
            copies: (F, votes, C, H, W).
            classify: what replaces the classifier.
        """
        classify = classify or self.logits
        if len(rows) == 0:
            return classify(x)
        if copies.shape[1] == 1:
            return classify(x.index_copy(0, rows, copies.squeeze(1)))
        assert self.purifier is not None
        clear = others(rows, len(x))
        logits = classify(torch.cat([x[clear], copies.flatten(0, 1)]))
        answered = logits[len(clear) :].reshape(*copies.shape[:2], logits.shape[1])
        with naming("purifier", self.purifier):
            joined: Any = self.purifier.join(answered)
        if not isinstance(joined, Tensor) or joined.shape != (len(rows), logits.shape[1]):
            told = f"shape {tuple(joined.shape)}" if isinstance(joined, Tensor) else f"a {type(joined).__name__}"
            raise HarnessError(
                f"{named('purifier', self.purifier)} joined the logits of "
                f"{plural(copies.shape[1], 'copy', 'copies')} into {told}; valid: "
                f"({len(rows)}, {logits.shape[1]})"
            )
        return torch.cat([logits[: len(clear)], joined])[torch.cat([clear, rows]).argsort()]

    def finite(self, logits: Tensor, rows: Tensor, copies: Tensor, scores: Tensor) -> Tensor:
        """bool (N,): logits, scores and purified copies are finite; of a score infinity is a decision.

        Args:
            logits: the deployed system's, (N, K).
            rows: int64 (F,), the images that were purified.
            copies: (F, votes, C, H, W). A classifier may hide their NaN, as a maximum or a comparison does.
            scores: (N,).
        """
        found = logits.isfinite().all(1)
        found = found.index_copy(0, rows, found[rows] & copies.flatten(1).isfinite().all(1))
        return found if self.detector is None else found & ~scores.isnan()

    def classes(self, logits: Tensor, treated: Treated) -> Tensor:
        """The answered classes or sets of findings, int64 (N,); `NOT_FINITE` where a value on the way is not finite.

        Of NaN, `argmax` would make the first class.
        """
        finite = self.finite(logits, treated.rows, treated.copies, treated.scores)
        return torch.where(finite, encode(logits > 0) if self.findings else logits.argmax(1), NOT_FINITE)

    @torch.inference_mode()
    def decide(self, x: Tensor, rng: Stream, draws: int = 1) -> Predictions:
        """The answers over ``draws`` independent noise draws, on the CPU; see `Predictions`.

        Raises:
            HarnessError: a part changes its input, or returns what it must not; see `Conduct`.
        """
        # The parts get a copy: what one of them does to it reaches neither the next result nor the data set.
        given, x = x, x.clone()
        rows: list[tuple[Tensor, ...]] = []
        conduct = Conduct(self, given)
        for draw in range(draws):
            treated = self.treat(x, rng.moment(draw))
            conduct.treated(treated)
            logits = self.answer(x, treated.rows, treated.copies)
            conduct.answered(x)
            change = (treated.copies - x[treated.rows].unsqueeze(1)).flatten(1)
            changed = torch.zeros_like(treated.flagged).index_copy(0, treated.rows, (change != 0).any(1))
            moved = x.new_zeros(len(x)).index_copy(0, treated.rows, change.square().mean(1).sqrt())
            scores, answers = treated.scores, self.classes(logits, treated)
            if self.detector is not None:
                scores = scores.masked_fill(scores.isnan(), -torch.inf)
            seen = (logits.float(),) if self.findings else ()
            rows.append((answers, treated.flagged, treated.rejected, scores, changed, moved, *seen))
        found = Predictions(*(torch.stack(column).cpu() for column in zip(*rows, strict=True)))
        conduct.check()
        return found
