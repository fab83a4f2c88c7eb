"""The rung `bpda`: the whole system, with an approximate gradient through the purifier."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_med.attacks.target_model import PipelineTarget
from robustbench_med.defenses.pipeline import others
from robustbench_med.interfaces.random import Stream


class BPDA(PipelineTarget):
    """Backward Pass Differentiable Approximation (Athalye et al. 2018, arXiv:1802.00420).

    The forward pass is the whole pipeline, exactly; the backward pass treats the gate as fixed and the purifier as a
    differentiable stand-in, the identity unless another is named.
    """

    def _all_draws(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The logits of every draw, image-major: (N * draws, K)."""
        pipeline, draws = self.settings.pipeline, self.draws
        if draws == 1:
            return self._treated(x, rng, y)
        fixed = pipeline.gate is not None and pipeline.detector is not None and not pipeline.detector.stochastic
        if not fixed or pipeline.purifier is None or pipeline.classifier.stochastic:
            return self._treated(x.repeat_interleave(draws, 0), rng, y.repeat_interleave(draws, 0))
        # A detector without noise flags an image in every draw or in none, and in none all draws are one.
        with torch.no_grad():
            scores = pipeline.score(x, rng[: len(x)])
        rows = (pipeline.flags(scores) | scores.isnan()).nonzero().flatten()
        clear = others(rows, len(x))
        if len(clear) == 0:
            return self._treated(x.repeat_interleave(draws, 0), rng, y.repeat_interleave(draws, 0))
        if len(rows) == 0:
            return self.in_parts(lambda part, at: self.classify(part, y[at]), x).repeat_interleave(draws, 0)
        every = (rows[:, None] * draws + torch.arange(draws, device=x.device)).flatten()
        once = self.in_parts(lambda part, at: self.classify(part, y[clear][at]), x[clear])
        drawn = self._treated(x[rows].repeat_interleave(draws, 0), rng[every], y[rows].repeat_interleave(draws, 0))
        place = torch.cat([clear, rows]).argsort()
        answers = torch.cat([once[:, None].expand(-1, draws, -1), drawn.view(len(rows), draws, drawn.shape[1])])
        return answers[place].flatten(0, 1)

    def _treated(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The answers to images as the whole pipeline treats them, each row with its own noise."""
        pipeline, size = self.settings.pipeline, self.settings.chunk
        # Gate and purifier are outside what is recomputed for the gradient: they have none, and are most of the work.
        with torch.no_grad():
            starts = range(0, max(len(x), 1), size)
            parts = [pipeline.treat(x[at : at + size], rng[at : at + size]) for at in starts]
        scores = torch.cat([part.scores for part in parts])
        rows = torch.cat([part.rows + at for part, at in zip(parts, starts, strict=True)])
        purified = [part.copies for part in parts if len(part.rows)]
        copies = torch.cat(purified) if purified else x[:0].unsqueeze(1)
        if torch.is_grad_enabled() and x.requires_grad and len(rows):
            backward = STAND_INS[self.settings.stand_in](x[rows])
            copies = _Straight.apply(backward.unsqueeze(1).expand_as(copies), copies)
        classifier = pipeline.classifier
        logits = pipeline.answer(
            x, rows, copies, lambda images: self.in_parts(lambda part, _: classifier(part), images)
        )
        finite = pipeline.finite(logits, rows, copies, scores)
        return self.abstain(self.seen(logits, y, finite), y, scores)


def _blur(x: Tensor) -> Tensor:
    """3 x 3 binomial blur, edges replicated."""
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = (kernel[:, None] * kernel / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])


#: Differentiable functions that may stand for a purifier in the backward pass of `BPDA`.
STAND_INS: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda x: x, "blur": _blur}


class _Straight(torch.autograd.Function):
    """``value`` with the gradient of ``x``, bit for bit."""

    @staticmethod
    def forward(ctx, x: Tensor, value: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        return grad, None
