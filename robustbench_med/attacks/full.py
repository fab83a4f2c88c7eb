"""The rung `full`: exact gradients of the whole system."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from robustbench_med.attacks.target_model import PipelineTarget
from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.random import Stream

#: At this distance below the threshold (`Gate.distance`) the soft gate counts as shut.
REACH = 5.0


class Full(PipelineTarget):
    """Exact gradients through detector, gate, purifier and classifier.

    In the forward pass the gate is hard: the values are those of the deployed system. In the backward pass it is
    soft: the gradient is that of the probabilities of both answers, to the image and to its purified copy, mixed with
    weights 1 - g and g, where g is a logistic function of `Gate.distance`. A flagged image that the purifier
    rescues thus feels the pull of the unpurified answer, which is what evading the detector needs, and the slope of the
    gate is not lost however far the score lies from the threshold.
    """

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The deployed system's logits with the gradient of the mixture."""
        pipeline = self.settings.pipeline
        scores = pipeline.score(x, rng)
        if pipeline.purifier is None:
            return self.abstain(self.classify(x, y, scores), y, scores)
        if pipeline.gate is None:
            rows = torch.arange(len(x), device=x.device)
            return self._purified(x, rows, scores, rng, y)
        flagged, distance = pipeline.flags(scores.detach()), pipeline.gate.distance(scores)
        wants = torch.is_grad_enabled() and x.requires_grad
        # An image far below the threshold is not purified, and the soft gate is shut for it: its gradient needs none.
        rows = ((distance.detach() > -REACH) | flagged if wants else flagged).nonzero().flatten()
        as_is = self.classify(x, y, scores)
        if len(rows) == 0:
            return as_is
        purified = self._purified(x, rows, scores, rng, y)
        value = as_is.index_copy(0, rows, torch.where(flagged[rows, None], purified, as_is[rows])).detach()
        if not wants:
            return value
        mixed = mixture(as_is[rows], purified, distance[rows])
        slope = as_is.to(mixed.dtype).index_copy(0, rows, mixed)
        return value + (slope - slope.detach())

    def _purified(self, x: Tensor, rows: Tensor, scores: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """Logits (F, K) of the purified copies of the images ``rows``, int64 (F,)."""
        pipeline, images = self.settings.pipeline, x[rows]
        assert pipeline.purifier is not None
        strength = pipeline.strengths(scores[rows])
        copies = pipeline.purified(images, strength, rng.fork("purifier")[rows])
        if torch.is_grad_enabled() and x.requires_grad and not copies.requires_grad:
            raise NotDefined(
                f"purifier {type(pipeline.purifier).__name__} gives no gradient, so there is no exact one; "
                "use --access bpda"
            )
        every = torch.arange(len(rows), device=x.device)
        logits = pipeline.answer(images, every, copies)
        return self.seen(logits, y[rows], pipeline.finite(logits, every, copies, scores[rows]))


def mixture(as_is: Tensor, purified: Tensor, distance: Tensor) -> Tensor:
    """Logits (N, K) of an answer drawn from two: to the image as it is, or to its purified copy.

    Their softmax is the mixture of both softmaxes. Where one of the two is certain, they are its logits.

    Args:
        as_is: logits of the image, (N, K).
        purified: logits of its purified copy, (N, K).
        distance: `Gate.distance` of its score, (N,); the copy is answered with probability sigmoid(distance).
    """
    wide = torch.promote_types(as_is.dtype, torch.float32)
    as_is, purified, distance = as_is.to(wide), purified.to(wide), distance.to(wide).unsqueeze(1)
    drawn = torch.logaddexp(
        log_softmax(as_is, 1) + logsigmoid(-distance), log_softmax(purified, 1) + logsigmoid(distance)
    )
    size = torch.lerp(as_is.logsumexp(1, True), purified.logsumexp(1, True), distance.sigmoid())
    return drawn + size
