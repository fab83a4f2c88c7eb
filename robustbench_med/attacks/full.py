"""The rungs `full` and `gate`: exact gradients of the whole system, and such that also evade the detector."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.target_model import PipelineTarget, TargetSettings, collapse, soft_width
from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.attack import margin
from robustbench_med.interfaces.random import Stream

#: Beyond this many widths from the threshold the soft gate is shut, or open.
REACH = 5.0


class Full(PipelineTarget):
    """Exact gradients through gate, purifier and classifier.

    The gate is hard in the forward pass and soft in the backward pass, where a logistic curve takes its place whose
    width is a tenth of the range of clean scores under the threshold.
    """

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The deployed system's logits with their own gradient."""
        return self.logits_and_scores(x, rng, y)[0]

    def logits_and_scores(self, x: Tensor, rng: Stream, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and detector scores (N,), both differentiable in ``x``.

        Raises:
            NotDefined: the purifier gives no gradient.
        """
        pipeline = self.settings.pipeline
        scores = pipeline.score(x, rng)
        if pipeline.purifier is None:
            logits = self.classify(x)
            return self.abstain(logits, y, scores), scores
        if pipeline.gate is None:
            rows = torch.arange(len(x), device=x.device)
            return self._answer(x, rows, self._copies(x, pipeline.strengths(scores), rng)), scores
        flagged = scores.detach() > pipeline.gate.threshold
        distance = (scores - pipeline.gate.threshold) / soft_width(pipeline)
        wants = torch.is_grad_enabled() and x.requires_grad
        # An image far below the threshold is not purified, and the soft gate is shut for it: its gradient needs none.
        rows = ((distance.detach() > -REACH) if wants and scores.requires_grad else flagged).nonzero().flatten()
        if len(rows) == 0:
            return self.classify(x), scores
        copies = self._copies(x[rows], pipeline.strengths(scores[rows]), rng[rows])
        as_is = x[rows].unsqueeze(1)
        chosen = torch.where(_per_image(flagged[rows], copies), copies, as_is)
        if wants and scores.requires_grad:
            soft = torch.sigmoid(distance[rows])
            # 0 in the forward pass; in the backward pass, the slope of the soft gate.
            chosen = chosen + _per_image(soft - soft.detach(), copies) * (copies - as_is).detach()
        return self._answer(x, rows, chosen), scores

    def _answer(self, x: Tensor, rows: Tensor, copies: Tensor) -> Tensor:
        return collapse(self.settings.pipeline.answer(x, rows, copies), self.settings.goal_class)

    def _copies(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        purifier = self.settings.pipeline.purifier
        assert purifier is not None
        copies = purifier.copies(x, strength, rng.fork("purifier")).to(x.dtype)
        if torch.is_grad_enabled() and x.requires_grad and not copies.requires_grad:
            raise NotDefined(
                f"purifier {type(purifier).__name__} gives no gradient, so there is no exact one; use --access bpda"
            )
        return copies


class GateEvading(Full):
    """As `Full`, with gradients that also keep the detector's score under its threshold.

    ``joint:WEIGHT`` follows the attack's gradient minus WEIGHT times that of the score, both scaled to length 1, while
    the image is flagged. ``orthogonal`` (Orthogonal PGD, Bryniarski et al. 2021, arXiv:2106.15023) raises the attack's
    loss along directions that leave the score alone until the answer is wrong, then lowers the score along directions
    that leave the loss alone. The values that the attack sees are those of the deployed system.
    """

    def __init__(self, settings: TargetSettings, rng: Stream, rows: Tensor | None = None) -> None:
        super().__init__(settings, rng, rows)
        self._scores: list[Tensor] = []

    def _counted_logits(self, x: Tensor, rng: Stream, rows: Tensor, extra: Tensor | int = 0) -> Tensor:
        if self.settings.pipeline.detector is None:
            raise NotDefined("access 'gate' needs a defense with a detector; use full")
        if not (torch.is_grad_enabled() and x.requires_grad):
            return super()._counted_logits(x, rng, rows, extra)
        steered = x.view_as(x)
        self._scores.clear()
        logits = super()._counted_logits(steered, rng, rows, extra)
        scores = torch.cat(self._scores).view(len(x), self.draws).mean(1)
        if not scores.requires_grad:
            raise NotDefined("the detector's score gives no gradient, so it cannot be kept low; use --access full")
        (away,) = torch.autograd.grad(scores.sum(), steered, retain_graph=True)
        gate = self.settings.pipeline.gate
        assert gate is not None
        flagged = scores.detach() > gate.threshold
        wrong = margin(logits.detach().mean(1), self.settings.counter.y[rows]) > 0
        evasion = self.settings.evasion
        steered.register_hook(lambda grad: steer(grad, away, flagged, wrong, evasion))  # type: ignore[no-untyped-call]
        return logits

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The deployed system's logits; the scores are put aside for `_counted_logits`."""
        logits, scores = self.logits_and_scores(x, rng, y)
        if torch.is_grad_enabled() and x.requires_grad:
            self._scores.append(scores)
        return logits


def steer(attack: Tensor, score: Tensor, flagged: Tensor, wrong: Tensor, evasion: str) -> Tensor:
    """The direction that raises the attack's loss and keeps the score low; see `GateEvading`.

    Args:
        attack: gradient of the attack's loss, (N, C, H, W).
        score: gradient of the detector's score, likewise.
        flagged: bool (N,), the score is over its threshold.
        wrong: bool (N,), the answer is wrong already.
        evasion: ``orthogonal`` or ``joint:WEIGHT``.

    Returns:
        Gradient of the length of ``attack``.
    """
    length = _length(attack)
    g, s = attack / (length + 1e-30), score / (_length(score) + 1e-30)
    if evasion.startswith("joint:"):
        mixed = g - float(evasion.removeprefix("joint:")) * s * _per_image(flagged, g)
    else:
        along = (g * s).flatten(1).sum(1)
        sideways = g - _per_image(along, g) * s
        mixed = torch.where(_per_image(wrong & flagged, g), _per_image(along, g) * g - s, sideways)
    # With no gradient of the attack left, the score still has one: its length must not be 0.
    return mixed / (_length(mixed) + 1e-30) * torch.where(length > 0, length, 1.0)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _length(v: Tensor) -> Tensor:
    return _per_image(v.flatten(1).norm(dim=1), v)
