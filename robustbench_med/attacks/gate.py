"""The rung `gate`: gradients of classifier and detector, for images that are wrong and not flagged."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.target_model import PipelineTarget, TargetSettings, abstained
from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.attack import margin
from robustbench_med.interfaces.random import Stream

#: Share of a direction that projecting another one out of it must leave, so that what is left is more than rounding.
LEAST = 0.05


class GateEvading(PipelineTarget):
    """The classifier's answer, where a flagged image counts as answered correctly; no gradient enters the purifier.

    An image that is wrong here passes the detector and is wrong for the deployed system. How the two aims are
    combined is the ``evasion``:

    ``selective`` follows the classifier until its answer to the image itself is wrong, then lowers the score while the
    image is flagged (Selective PGD, Bryniarski et al. 2021, arXiv:2106.15023). ``orthogonal`` (Orthogonal PGD, same
    paper) does so along directions that leave the other aim alone, where any are left. ``joint:WEIGHT`` follows the
    classifier's gradient minus WEIGHT times that of the score, both scaled to length 1, while the image is flagged.
    """

    def __init__(
        self, settings: TargetSettings, rng: Stream, rows: Tensor | None = None, start: Tensor | None = None
    ) -> None:
        super().__init__(settings, rng, rows, start)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def _counted_logits(self, x: Tensor, rng: Stream, rows: Tensor, extra: Tensor | None = None) -> Tensor:
        if self.settings.pipeline.detector is None:
            raise NotDefined("access 'gate' needs a defense with a detector; use full")
        evasion = self.settings.evasion
        if evasion == "selective" or not (torch.is_grad_enabled() and x.requires_grad):
            return super()._counted_logits(x, rng, rows, extra)
        steered = x.view_as(x)
        self._seen.clear()
        logits = super()._counted_logits(steered, rng, rows, extra)
        scores, margins = (
            torch.cat(column).view(len(x), self.draws).mean(1) for column in zip(*self._seen, strict=True)
        )
        self._seen.clear()  # nothing with a graph outlives the pass
        if not scores.requires_grad:
            raise NotDefined("the detector's score gives no gradient, so it cannot be kept low; use --access full")
        (away,) = torch.autograd.grad(scores.sum(), steered, retain_graph=True)
        flagged, wrong = self.settings.pipeline.flags(scores.detach()), margins > 0
        steered.register_hook(lambda grad: steer(grad, away, flagged, wrong, evasion))  # type: ignore[no-untyped-call]
        return logits

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The classifier's logits, changed by `abstained` where the image is flagged."""
        pipeline = self.settings.pipeline
        assert pipeline.gate is not None
        scores = pipeline.score(x, rng)
        logits, y = self.classify(x, y, scores), self.settings.goal.labels(y)
        answers = abstained(logits, y, pipeline.gate.distance(scores))
        if self.settings.evasion == "selective" or not (torch.is_grad_enabled() and x.requires_grad):
            return answers
        self._seen.append((scores, margin(logits.detach(), y)))
        # The gradient of the classifier alone; `steer` adds that of the score.
        return logits + (answers - logits).detach()


def steer(attack: Tensor, score: Tensor, flagged: Tensor, wrong: Tensor, evasion: str) -> Tensor:
    """The direction that raises the attack's loss and keeps the score low; see `GateEvading`.

    Args:
        attack: gradient of the attack's loss on the classifier, (N, C, H, W).
        score: gradient of the detector's score, likewise.
        flagged: bool (N,), the score is over its threshold.
        wrong: bool (N,), the classifier's answer to the image itself is wrong.
        evasion: ``orthogonal`` or ``joint:WEIGHT``.

    Returns:
        Gradient of the length of ``attack``.
    """
    length = _length(attack)
    g, s = attack / (length + 1e-30), score / (_length(score) + 1e-30)
    if evasion.startswith("joint:"):
        mixed = g - float(evasion.removeprefix("joint:")) * s * _per_image(flagged, g)
    else:
        along = _per_image((g * s).flatten(1).sum(1), g)
        raising, lowering = g - along * s, along * g - s
        # With two classes the score may be a function of the margin: then nothing is orthogonal to it.
        raising = torch.where(_length(raising) > LEAST, raising, g)
        lowering = torch.where(_length(lowering) > LEAST, lowering, -s)
        mixed = torch.where(_per_image(wrong & flagged, g), lowering, raising)
    # With no gradient of the attack left, the score still has one: its length must not be 0.
    return mixed / (_length(mixed) + 1e-30) * torch.where(length > 0, length, 1.0)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _length(v: Tensor) -> Tensor:
    return _per_image(v.flatten(1).norm(dim=1), v)
