"""The rungs of the access ladder: one kind of adversary each.

``oblivious`` sees the classifier only; ``transfer`` a surrogate of it; ``bpda``, ``full`` and ``gate`` the whole
deployed system, with an approximate gradient, the exact one, and the exact one that also keeps the detector quiet;
``query`` only the answers of the deployed system.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_med.attacks.target_model import PipelineTarget, View, collapse, withheld
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.attack import margin
from robustbench_med.interfaces.random import Stream

#: The soft gate's width as a share of the clean scores between the lowest and the threshold.
SOFTNESS = 0.1
#: Beyond this many widths from the threshold the soft gate is shut, or open.
REACH = 5.0


class Oblivious(PipelineTarget):
    """The classifier alone: the adversary does not know that there is a detector or a purifier."""

    @property
    def random(self) -> bool:
        """Only a classifier that draws noise is random here."""
        return self.view.pipeline.classifier.stochastic

    @property
    def stop_on_success(self) -> bool:  # type: ignore[override]
        """True for a bare classifier, where the target model is the deployed system."""
        return not self.view.pipeline.defended and not self.random

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The classifier's logits."""
        return self.classify(x)


class Transfer(PipelineTarget):
    """A surrogate classifier trained on the same federation; nothing of the deployed system is seen."""

    random = False
    stop_on_success = False

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The surrogate's logits."""
        if self.view.surrogate is None:
            raise NotDefined("access 'transfer' needs a surrogate classifier; name one with --surrogate")
        return collapse(self.view.surrogate(x), self.view.goal_class)


class BPDA(PipelineTarget):
    """Backward Pass Differentiable Approximation (Athalye et al. 2018, arXiv:1802.00420).

    The forward pass is the whole pipeline, exactly; the backward pass treats the gate as fixed and the purifier as a
    differentiable stand-in, the identity unless another is named.
    """

    def _in_parts(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The answers to every draw, image-major: (N * draws, K)."""
        pipeline, draws = self.view.pipeline, self.draws
        if draws == 1:
            return self._treated(x, rng, y)
        fixed = pipeline.gate is not None and pipeline.detector is not None and not pipeline.detector.stochastic
        if not fixed or pipeline.purifier is None or pipeline.classifier.stochastic:
            return self._treated(x.repeat_interleave(draws, 0), rng, y.repeat_interleave(draws, 0))
        # A detector without noise flags an image in every draw or in none, and in none all draws are one.
        with torch.no_grad():
            flagged = pipeline.flags(pipeline.score(x, rng[: len(x)]))
        clear, rows = (~flagged).nonzero().flatten(), flagged.nonzero().flatten()
        if len(clear) == 0:
            return self._treated(x.repeat_interleave(draws, 0), rng, y.repeat_interleave(draws, 0))
        if len(rows) == 0:
            return self.in_parts(lambda part, _: self.classify(part), x).repeat_interleave(draws, 0)
        every = (rows[:, None] * draws + torch.arange(draws, device=x.device)).flatten()
        once = self.in_parts(lambda part, _: self.classify(part), x[clear])
        drawn = self._treated(x[rows].repeat_interleave(draws, 0), rng[every], y[rows].repeat_interleave(draws, 0))
        place = torch.cat([clear, rows]).argsort()
        answers = torch.cat([once[:, None].expand(-1, draws, -1), drawn.view(len(rows), draws, drawn.shape[1])])
        return answers[place].flatten(0, 1)

    def _treated(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The answers to images as the whole pipeline treats them, each row with its own noise."""
        pipeline, size = self.view.pipeline, self.view.chunk
        # Gate and purifier are outside what is recomputed for the gradient: they have none, and are most of the work.
        with torch.no_grad():
            parts = [pipeline.treat(x[at : at + size], rng[at : at + size]) for at in range(0, max(len(x), 1), size)]
        scores, flagged = (torch.cat([getattr(part, name) for part in parts]) for name in ("scores", "flagged"))
        purified = [part.copies for part in parts if len(part.rows)]
        copies = torch.cat(purified) if purified else x[:0].unsqueeze(1)
        rows = flagged.nonzero().flatten()[: len(copies)]
        if torch.is_grad_enabled() and x.requires_grad and len(rows):
            backward = STAND_INS[self.view.stand_in](x[rows])
            copies = _replace_value(backward.unsqueeze(1).expand_as(copies), copies)
        ask = pipeline.classifier
        logits = pipeline.answer(x, rows, copies, lambda images: self.in_parts(lambda part, _: ask(part), images))
        logits = collapse(logits, self.view.goal_class)
        return withheld(logits, y, _over(pipeline, scores)) if pipeline.rejects else logits


class Full(PipelineTarget):
    """Exact gradients through gate, purifier and classifier.

    The gate is hard in the forward pass and soft in the backward pass, where a logistic curve takes its place whose
    width is a tenth of the range of clean scores under the threshold.
    """

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The deployed system's logits with their own gradient."""
        return self.judge(x, rng, y)[0]

    def judge(self, x: Tensor, rng: Stream, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and detector scores (N,), both differentiable in ``x``.

        Raises:
            NotDefined: the purifier gives no gradient.
        """
        pipeline = self.view.pipeline
        scores = pipeline.score(x, rng)
        if pipeline.purifier is None:
            logits = self.classify(x)
            return withheld(logits, y, _over(pipeline, scores)) if pipeline.rejects else logits, scores
        if pipeline.gate is None:
            rows = torch.arange(len(x), device=x.device)
            return self._answer(x, rows, self._copies(x, pipeline.strengths(scores), rng)), scores
        flagged = scores.detach() > pipeline.gate.threshold
        distance = (scores - pipeline.gate.threshold) / _width(pipeline)
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
        return collapse(self.view.pipeline.answer(x, rows, copies), self.view.goal_class)

    def _copies(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        purifier = self.view.pipeline.purifier
        assert purifier is not None
        copies = purifier.copies(x, strength, rng.fork("purifier")).to(x.dtype)
        if torch.is_grad_enabled() and x.requires_grad and not copies.requires_grad:
            raise NotDefined(
                f"purifier {type(purifier).__name__} gives no gradient, so there is no exact one; use --access bpda"
            )
        return copies


class Gate(Full):
    """As `Full`, with gradients that also keep the detector's score under its threshold.

    ``joint:WEIGHT`` follows the attack's gradient minus WEIGHT times that of the score, both scaled to length 1, while
    the image is flagged. ``orthogonal`` (Orthogonal PGD, Bryniarski et al. 2021, arXiv:2106.15023) raises the attack's
    loss along directions that leave the score alone until the answer is wrong, then lowers the score along directions
    that leave the loss alone. The values that the attack sees are those of the deployed system.
    """

    def __init__(self, view: View, rng: Stream, rows: Tensor | None = None) -> None:
        super().__init__(view, rng, rows)
        self._scores: list[Tensor] = []

    def _ask(self, x: Tensor, rng: Stream, rows: Tensor, extra: Tensor | int = 0) -> Tensor:
        if self.view.pipeline.detector is None:
            raise NotDefined("access 'gate' needs a defense with a detector; use full")
        if not (torch.is_grad_enabled() and x.requires_grad):
            return super()._ask(x, rng, rows, extra)
        steered = x.view_as(x)
        self._scores.clear()
        logits = super()._ask(steered, rng, rows, extra)
        scores = torch.cat(self._scores).view(len(x), self.draws).mean(1)
        if not scores.requires_grad:
            raise NotDefined("the detector's score gives no gradient, so it cannot be kept low; use --access full")
        (away,) = torch.autograd.grad(scores.sum(), steered, retain_graph=True)
        gate = self.view.pipeline.gate
        assert gate is not None
        flagged = scores.detach() > gate.threshold
        wrong = margin(logits.detach().mean(1), self.view.counter.y[rows]) > 0
        evasion = self.view.evasion
        steered.register_hook(lambda grad: steer(grad, away, flagged, wrong, evasion))  # type: ignore[no-untyped-call]
        return logits

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The deployed system's logits; the scores are put aside for `_ask`."""
        logits, scores = self.judge(x, rng, y)
        if torch.is_grad_enabled() and x.requires_grad:
            self._scores.append(scores)
        return logits


class Query(PipelineTarget):
    """The answers of the deployed system and nothing else: asking for a gradient raises."""

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The deployed system's logits, without a graph."""
        pipeline = self.view.pipeline
        with torch.no_grad():
            treated = pipeline.treat(x, rng)
            logits = collapse(pipeline.answer(x, treated.rows, treated.copies), self.view.goal_class)
            if pipeline.rejects:
                logits = withheld(logits, y, _over(pipeline, treated.scores))
        asked = torch.is_grad_enabled() and x.requires_grad
        return _Refuses.apply(logits, x) if asked else logits


class _Refuses(torch.autograd.Function):
    """Forward: the logits. Backward: an error that says why."""

    @staticmethod
    def forward(ctx, logits: Tensor, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        raise NotDefined("access 'query' gives no gradient; use an attack that needs scores or decisions, as square")


#: Every rung with what it lets the adversary see, cheapest first: the order in which a ladder climbs them.
RUNGS: dict[str, type[PipelineTarget]] = {
    "oblivious": Oblivious, "transfer": Transfer, "bpda": BPDA, "full": Full, "gate": Gate, "query": Query,
}  # fmt: skip


def target_for(view: View, access: str, rng: Stream) -> PipelineTarget:
    """What an adversary with this ``access`` sees."""
    return RUNGS[access](view, rng)


def steer(attack: Tensor, score: Tensor, flagged: Tensor, wrong: Tensor, evasion: str) -> Tensor:
    """The direction that raises the attack's loss and keeps the score low; see `Gate`.

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


def _blur(x: Tensor) -> Tensor:
    """3 x 3 binomial blur, edges replicated."""
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = (kernel[:, None] * kernel / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])


#: Differentiable functions that may stand for a purifier in the backward pass of `BPDA`.
STAND_INS: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda x: x, "blur": _blur}


def _replace_value(x: Tensor, value: Tensor) -> Tensor:
    """``value`` with the gradient of ``x``, bit for bit."""
    return _Straight.apply(x, value)  # type: ignore[no-any-return]


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, value: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        return grad, None


def _width(pipeline: Pipeline) -> float:
    """Width of the soft gate, in units of the score."""
    assert pipeline.gate is not None
    return max(SOFTNESS * (pipeline.gate.threshold - pipeline.gate.low), 1e-12)


def _over(pipeline: Pipeline, scores: Tensor) -> Tensor:
    """How far scores lie over the threshold, in widths of the soft gate."""
    assert pipeline.gate is not None
    return (scores - pipeline.gate.threshold) / _width(pipeline)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _length(v: Tensor) -> Tensor:
    return _per_image(v.flatten(1).norm(dim=1), v)
