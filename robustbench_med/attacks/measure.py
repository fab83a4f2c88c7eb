"""Attack one client's images and score the deployed pipeline: tensors in, `Outcome` out.

The harness, not the attack, declares success: it checks norm and range of every adversarial image and lets the
deployed pipeline answer with noise that no attack has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from robustbench_med.attacks.adversary import Systems
from robustbench_med.attacks.settings import Setting
from robustbench_med.attacks.worst_case import WorstCase
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.random import Stream, seed_of
from robustbench_med.interfaces.results import Outcome, Predictions
from robustbench_med.runtime.batching import Upload, in_chunks
from robustbench_med.runtime.isolation import isolated


def measure(pipeline: Pipeline, split: Split, index: Tensor, setting: Setting) -> Outcome:
    """Attack and score the images of one client.

    Args:
        pipeline: the client's deployed system.
        split: the client's images.
        index: int64 (N,), row of each image in the whole test split; random streams follow it, not the batch.
        setting: the rest.

    Raises:
        OutsideThreatModel: an adversarial image left the ball or [0, 1].
        UsageError: the attack or the rung does not exist for this system (of several steps: none does).
    """
    return Outcome.join([outcome for _, outcome in measured(pipeline, split, index, setting)])


def measured(
    pipeline: Pipeline, split: Split, index: Tensor, setting: Setting, start: int = 0
) -> Iterator[tuple[slice, Outcome]]:
    """As `measure`, chunk by chunk from the image ``start`` on, with the place of each chunk in the split."""
    systems = Systems(pipeline, setting)
    upload = Upload(split.images, setting.device, setting.speed.prefetch)

    def one_chunk(part: slice, size: int) -> Outcome:
        own, x = split.select(torch.arange(part.start, part.stop)), upload(part)
        return _chunk(systems, x, own, index[part].to(setting.device), replace(setting, batch=size))

    yield from in_chunks(len(split), setting.batch, one_chunk, start)


def _chunk(systems: Systems, x: Tensor, part: Split, ids: Tensor, setting: Setting) -> Outcome:
    """Attack and score some images at once; ``x`` are those of ``part``, on the device."""
    pipeline = systems.deployed
    draws = setting.draws if pipeline.stochastic else 1
    scoring, first = Stream.named("scoring", setting.seed, ids), ids[:1].tolist()

    def decided(images: Tensor) -> Predictions:
        with isolated(seed_of(setting.seed, "scoring", *first)):
            return pipeline.decide(images, scoring, draws)

    before = _clean(setting, ids, draws, lambda: decided(x))
    climbing = WorstCase(systems, x, part.labels.to(x.device), ids, setting, draws)
    x_adv = climbing.climb(before)
    return Outcome(
        labels=part.labels,
        sites=part.sites,
        patients=part.patients,
        clean=before,
        attacked=decided(x_adv),
        distances=setting.threat.distance(x_adv, x).cpu(),
        rungs=tuple(climbing.climbs),
        num_classes=setting.num_classes,
        lesion_class=setting.lesion_class,
        index=ids.cpu(),
    )


def _clean(setting: Setting, ids: Tensor, draws: int, decide: Callable[[], Predictions]) -> Predictions:
    """The answers to a chunk of clean images, which every attack on the same system has in common."""
    if setting.shared is None:
        return decide()
    what = ["clean", setting.system, setting.seed, draws, ids.tolist()]
    _, found = setting.shared.get(what, lambda: ({}, {name: getattr(v, name) for v in [decide()] for name in _SIDES}))
    return Predictions(**found)


_SIDES = tuple(field.name for field in fields(Predictions))
