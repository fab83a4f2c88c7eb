"""A control of the attack: at an eps that allows any image, an attack that works breaks every image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import Rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import WeightsChanged, described
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.threat import ThreatModel

#: Share of the images that are attacked again, and the most that spreading them over clients and rungs may need: of the
#: images times the rungs, since each is attacked from one rung only.
SHARE, MOST = 0.05, 0.1
#: Rungs by how exact their gradient is. `gate` is not among them: with two aims it may fail where no attack is broken.
ORDER = ("full", "bpda", "boundary", "oblivious", "transfer", "insider")


def gradient_rungs(rungs: Sequence[Rung]) -> list[Rung]:
    """The rungs of `ORDER` that follow a gradient, in that order, each with one round."""
    chosen = [rung for rung in rungs if rung.follows_gradient and rung.access in ORDER]
    chosen.sort(key=lambda rung: ORDER.index(rung.access))
    return [replace(rung, ref=replace(rung.ref, rounds=1)) for rung in chosen]


def numbers(images: Sequence[int], rungs: Sequence[Rung]) -> list[range]:
    """For each client, the numbers of its images that are attacked at a huge eps; they count through the whole cell.

    About 5 % of the cell's images, with at least one for each client and one for each gradient rung where that is
    at most 10 % of what the cell attacks. Image ``k`` is attacked from rung ``k`` in turn, so that clients and rungs
    are mixed.
    """
    total, ways = sum(images), len(gradient_rungs(rungs))
    if not ways:
        return [range(0)] * len(images)
    least, clients = max(2, round(SHARE * total)), len(images)
    wanted = min(max(least, clients, ways), max(least, round(MOST * total * ways)), total)
    found, start = [], 0
    for client, own in enumerate(images):
        share = wanted * (client + 1) // clients - wanted * client // clients
        found.append(range(start, start + min(share, own)))
        start += min(share, own)
    return found


def attack(
    pipeline: Pipeline, split: Split, index: torch.Tensor, settings: EvaluationSettings, chosen: range
) -> tuple[int, int, list[str]]:
    """Attack a client's first images, which have the numbers ``chosen``.

    Returns:
        How many were attacked, how many of them withstood at every radius of `_radii`, and
        a note for each rung that failed.
    """
    if not settings.threat.is_ball:
        return 0, 0, []  # no size of a family allows any image
    attacked, withstood, notes = 0, 0, []
    rungs = gradient_rungs(settings.rungs)
    for number, rung in enumerate(rungs):
        few = torch.tensor([k - chosen.start for k in chosen if k % len(rungs) == number], dtype=torch.int64)
        few = few[few < len(split)]
        if not len(few):
            continue
        whole = few
        try:
            for eps in _radii(settings.threat, split.images[0].numel()):
                threat = replace(settings.threat, eps=eps)
                again = replace(settings, threat=threat, rungs=(rung,), draws=1, watch=True, batch=len(few))
                outcome = measure(pipeline, split.select(few), index[few], again)
                few = few[outcome.rungs[0].top <= 0]
                if not len(few):
                    break
        except WeightsChanged:
            raise
        except Exception as error:  # noqa: BLE001 -- a control that cannot run is noted, and the cell continues without it
            notes.append(f"no attack at a huge eps from {rung.access}: {described(error)}"[:200])
            continue
        left = len(few)
        attacked, withstood = attacked + len(whole), withstood + left
        if left:
            notes.append(
                f"{left} of {plural(len(whole), 'image')} of {split.sites[0]} withstood {rung.name} at a huge eps"[:200]
            )
    return attacked, withstood, notes


def _radii(threat: ThreatModel, pixels: int) -> tuple[float, ...]:
    """An eps that allows any image, and the geometric mean of it and the threat's: its ball is part of the former.

    A first step as long as the image space may end where a classifier is sure of one class whatever it sees, as of
    noise, and give the attack no way back. A system that masks its gradients withstands both.
    """
    huge = {"linf": 1.0, "l2": math.sqrt(pixels), "l1": float(pixels)}[threat.norm]
    return huge, math.sqrt(huge * threat.eps)
