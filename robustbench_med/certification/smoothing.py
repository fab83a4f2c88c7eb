"""Randomized smoothing (Cohen et al. 2019, arXiv:1902.02918) of a deployed system: CERTIFY and PREDICT in batches.

The smoothed system answers an image with the class that its base, here denoiser and classifier, gives most often to the
image with Gaussian noise. Its purifier adds the noise (`robustbench_med.interfaces.defense.Purifier.sigma`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.certification.bounds import lower_bound, radius, significant
from robustbench_med.certification.settings import Certification
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import NOT_FINITE, Predictions

#: Samples of each image that share a moment of its stream. Part of the numbers.
BLOCK = 100
#: Samples that pass through the base together.
BATCH = {"cpu": 64, "cuda": 2048}


@dataclass(frozen=True)
class Tally:
    """Answers of the base to noisy copies of images.

    Attributes:
        counts: int64 (N, K + 1), how often each class was answered; the last column counts answers that are not finite.
        rmse: float32 (N,), root mean square change of the copies.
    """

    counts: Tensor
    rmse: Tensor


@torch.inference_mode()
def tally(pipeline: Pipeline, x: Tensor, rng: Stream, n: int) -> Tally:
    """The answers to ``n`` noisy copies of each image of ``x``, (N, C, H, W).

    Sample i of an image is a function of its stream and of i, whatever ``n`` and the other images are.
    """
    purifier, size = pipeline.purifier, BATCH[x.device.type if x.device.type in BATCH else "cuda"]
    assert purifier is not None
    counts, squares = None, x.new_zeros(len(x))
    for block, start in enumerate(range(0, n, BLOCK)):
        each = min(BLOCK, n - start)
        streams = rng.moment(block).repeat(each)
        for first in range(0, len(x) * each, size):
            rows = torch.arange(first, min(first + size, len(x) * each), device=x.device)
            owner = rows // each
            copies = purifier.purify(x[owner], x.new_ones(len(rows)), streams[rows])
            logits = pipeline.classifier(copies)
            classes = logits.shape[1]
            finite = logits.isfinite().all(1) & copies.flatten(1).isfinite().all(1)
            answers = torch.where(finite, logits.argmax(1), classes)
            if counts is None:
                counts = torch.zeros(len(x), classes + 1, dtype=torch.int64, device=x.device)
            counts.index_put_((owner, answers), torch.ones_like(owner), accumulate=True)
            squares.index_add_(0, owner, (copies - x[owner]).flatten(1).square().mean(1))
    assert counts is not None
    return Tally(counts.cpu(), (squares / n).sqrt().cpu())


def certify(pipeline: Pipeline, x: Tensor, ids: Tensor, seed: int, how: Certification) -> dict[str, Tensor]:
    """CERTIFY of Cohen et al. for images ``x`` (N, C, H, W) with these ids, int64 (N,).

    Returns:
        By name, on the CPU: ``prediction`` int64 (N,), the class chosen by the first n0 samples; ``p_lower`` float64
        (N,), the lower bound of its probability; ``radius`` float64 (N,), 0 where the system abstains; ``rmse``.
    """
    chosen = tally(pipeline, x, Stream.named("certify:choose", seed, ids), how.n0).counts.argmax(1)
    counted = tally(pipeline, x, Stream.named("certify:bound", seed, ids), how.n)
    hits = counted.counts.gather(1, chosen[:, None]).squeeze(1)
    bound = lower_bound(hits.numpy(), how.n, how.alpha)
    wide = radius(bound, sigma_of(pipeline))
    unusable = chosen == counted.counts.shape[1] - 1
    return {
        "prediction": torch.where(unusable, NOT_FINITE, chosen),
        "p_lower": torch.from_numpy(bound),
        "radius": torch.from_numpy(wide).masked_fill(unusable, 0.0),
        "rmse": counted.rmse,
    }


def certified_answers(found: dict[str, Tensor]) -> Predictions:
    """What `certify` found as the answers of the smoothed system: it abstains where it certifies nothing."""
    return _answers(found["prediction"], found["radius"] == 0, found["rmse"])


def predict(pipeline: Pipeline, x: Tensor, rng: Stream, how: Certification) -> Predictions:
    """PREDICT of Cohen et al.: the smoothed answers to images (N, C, H, W), abstaining where two classes are close.

    In two stages, each at half of alpha: most images are clear after n0 samples, and only the others are given n more.
    """
    found = tally(pipeline, x, rng, how.n0)
    classes, sure, rmse = *_tested(found, how.alpha / 2), found.rmse.clone()
    rows = (~sure).nonzero().flatten()
    if len(rows):
        again = tally(pipeline, x[rows.to(x.device)], rng.fork("second stage")[rows.to(x.device)], how.n)
        classes[rows], sure[rows] = _tested(again, how.alpha / 2)
        rmse[rows] = again.rmse
    return _answers(classes, ~sure, rmse)


def _tested(found: Tally, alpha: float) -> tuple[Tensor, Tensor]:
    """The most frequent answers, int64 (N,), and whether that is more than chance, bool (N,)."""
    first, second = found.counts.topk(2, 1).values.numpy().T
    best = found.counts.argmax(1)
    classes = torch.where(best == found.counts.shape[1] - 1, NOT_FINITE, best)
    return classes, torch.from_numpy(significant(first, second, alpha))


def _answers(classes: Tensor, abstained: Tensor, rmse: Tensor) -> Predictions:
    """Answers of one draw, since the samples are part of the smoothed system."""
    every = torch.ones(1, len(classes), dtype=torch.bool)
    scores = torch.full((1, len(classes)), torch.nan)
    return Predictions(classes[None], every, abstained[None], scores, every, rmse[None])


def sigma_of(pipeline: Pipeline) -> float:
    """The standard deviation of the smoothing noise in pixel space."""
    assert pipeline.purifier is not None
    assert pipeline.purifier.sigma is not None
    return pipeline.purifier.sigma


def compared(
    labels: Tensor, found: dict[str, Tensor], attacked: Predictions, distances: Tensor, eps: float
) -> dict[str, Tensor]:
    """Certificates beside the smoothed answers to attacked images: `Outcome.certified`.

    An image answered wrongly though it was attacked inside its certified radius contradicts its certificate: one of
    the two is wrong, or one of the bounds that hold with probability 1 - alpha each did not hold.

    Args:
        labels: int64 (N,).
        found: what `certify` found.
        attacked: smoothed answers to the attacked images.
        distances: L2 distance of each attacked image, (N,).
        eps: radius at which certificates are counted.
    """
    right, broken = found["prediction"] == labels, ~attacked.robust(labels).all(0)
    return {
        "radius": found["radius"],
        "p_lower": found["p_lower"],
        "held": right & (found["radius"] >= eps),
        "contradicted": right & (found["radius"] >= distances) & broken & (found["radius"] > 0),
    }
