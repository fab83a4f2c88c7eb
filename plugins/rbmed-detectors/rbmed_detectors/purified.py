"""Purified copies of an image and the classifier's predictions on them, for detectors that compare."""

from __future__ import annotations

from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter


def purified(x: Tensor, system: rbmed.System, rng: rbmed.Stream, draws: int, strength: float, name: str) -> Tensor:
    """Several purifications of each image by the system's purifier, each with its own noise.

    Args:
        x: images (N, C, H, W).
        system: has the purifier.
        rng: one stream per image.
        draws: purifications of each image.
        strength: of the purification, in [0, 1].
        name: of the detector and its setting, for the error message.

    Returns:
        (N, draws, votes, C, H, W), ``votes`` being the copies that the purifier makes each time.

    Raises:
        BadParameter: the system has no purifier.
    """
    if system.purifier is None:
        raise BadParameter(f"detector {name} needs a defense with a purifier; this one has none")
    strengths = x.new_full((len(x) * draws,), strength)
    copies = system.purifier.copies(x.repeat_interleave(draws, 0), strengths, rng.repeat(draws))
    return copies.view(len(x), draws, *copies.shape[1:])


def purified_logits(
    x: Tensor, system: rbmed.System, rng: rbmed.Stream, draws: int, strength: float, name: str
) -> Tensor:
    """The classifier's logits after purification, as in the pipeline, (N, draws, K); see `purified`."""
    copies = purified(x, system, rng, draws, strength, name)
    logits: Tensor = system.classifier(copies.flatten(0, 2))
    assert system.purifier is not None
    joined = system.purifier.join(logits.reshape(len(x) * draws, copies.shape[2], -1))
    return joined.reshape(len(x), draws, -1)
