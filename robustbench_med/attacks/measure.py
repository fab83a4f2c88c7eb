"""Attack one client's images and score the deployed pipeline: tensors in, `Outcome` out.

The harness, not the attack, declares success: it checks norm and range of every adversarial image and lets the
deployed pipeline answer with noise that no attack has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from robustbench_med.attacks.attacked_system import AttackedSystem
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.attacks.worst_case import WorstCase
from robustbench_med.certification import smoothing
from robustbench_med.certification.settings import Certification
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.random import Stream, seed_of
from robustbench_med.interfaces.results import Outcome, Predictions
from robustbench_med.runtime.batching import Upload, in_chunks
from robustbench_med.runtime.isolation import isolated

#: Images that are certified together: what an interrupted run loses at most.
CERTIFIED_TOGETHER = 8


def measure(pipeline: Pipeline, split: Split, index: Tensor, settings: EvaluationSettings) -> Outcome:
    """Attack and score the images of one client.

    Args:
        pipeline: the client's deployed system.
        split: the client's images.
        index: int64 (N,), row of each image in the whole test split; random streams follow it, not the batch.
        settings: the rest.

    Raises:
        OutsideThreatModel: an adversarial image left the ball or [0, 1].
        UsageError: the attack or the rung does not exist for this system (of several rungs: none does).
    """
    return Outcome.join([outcome for _, outcome in measure_chunks(pipeline, split, index, settings)])


def measure_chunks(
    pipeline: Pipeline,
    split: Split,
    index: Tensor,
    settings: EvaluationSettings,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[tuple[slice, Outcome]]:
    """As `measure`, chunk by chunk from the image ``start`` on, with the place of each chunk in the split."""
    system = AttackedSystem(pipeline, settings)
    upload = Upload(split.images, settings.device, settings.speed.prefetch)

    def one_chunk(part: slice, size: int) -> Outcome:
        own, x = split.select(torch.arange(part.start, part.stop)), upload(part)
        return _measure_chunk(system, x, own, index[part].to(settings.device), replace(settings, batch=size))

    yield from in_chunks(len(split) if stop is None else stop, settings.batch, one_chunk, start)


def _measure_chunk(
    system: AttackedSystem, x: Tensor, part: Split, ids: Tensor, settings: EvaluationSettings
) -> Outcome:
    """Attack and score some images at once; ``x`` are those of ``part``, on the device."""
    pipeline = system.deployed
    draws = settings.draws if pipeline.stochastic else 1
    scoring, first = Stream.named("scoring", settings.seed, ids), ids[:1].tolist()

    certification = settings.certification

    def predict(images: Tensor) -> Predictions:
        with isolated(seed_of(settings.seed, "scoring", *first)):
            if certification is not None:
                return smoothing.predict(pipeline, images, scoring, certification)
            return pipeline.decide(images, scoring, draws)

    found = {} if certification is None else _certificates(pipeline, x, ids, settings, certification)
    clean = smoothing.certified_answers(found) if found else None
    clean = clean or _clean_predictions(settings, ids, draws, lambda: predict(x))
    attacks = WorstCase(system, x, part.labels.to(x.device), ids, settings)
    x_adv = attacks.run(clean)
    images = {"clean": x, "attacked": x_adv}
    also = {}
    if settings.score_8bit:
        # Rounding may take an image out of the ball: that is what happens to it in a file.
        also["attacked_8bit"] = predict((x_adv * 255).round() / 255)
    if settings.score_fixed_noise and pipeline.stochastic:
        also |= {f"{side}_fixed_noise": _fixed(pipeline, each, settings) for side, each in images.items()}
    attacked, distances = predict(x_adv), settings.threat.distance(x_adv, x).cpu()
    return Outcome(
        labels=part.labels,
        sites=part.sites,
        patients=part.patients,
        clean=clean,
        attacked=attacked,
        distances=distances,
        rungs=tuple(attacks.results),
        num_classes=settings.num_classes,
        lesion_class=settings.lesion_class,
        index=ids.cpu(),
        also=also,
        task=settings.task,
        classes=settings.classes,
        certified=smoothing.compared(part.labels, found, attacked, distances, settings.threat.eps) if found else {},
    )


def _certificates(
    pipeline: Pipeline, x: Tensor, ids: Tensor, settings: EvaluationSettings, how: Certification
) -> dict[str, Tensor]:
    """The certificates of a chunk, a few images at a time, each shared by all cells of the same system."""
    parts = []
    for start in range(0, len(x), CERTIFIED_TOGETHER):
        few, own = x[start : start + CERTIFIED_TOGETHER], ids[start : start + CERTIFIED_TOGETHER]

        def made(few: Tensor = few, own: Tensor = own) -> tuple[None, dict[str, Tensor]]:
            with isolated(seed_of(settings.seed, "certify", int(own[0]))):
                return None, smoothing.certify(pipeline, few, own, settings.seed, how)

        what = ["certified", settings.system_key, settings.seed, how.facts, own.tolist()]
        parts.append((made() if settings.shared is None else settings.shared.get(what, made))[1])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _fixed(pipeline: Pipeline, images: Tensor, settings: EvaluationSettings) -> Predictions:
    """The answers of a system that draws the same noise whenever it is asked."""
    same = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    with isolated(seed_of(settings.seed, "fixed noise")):
        return pipeline.decide(images, Stream.named("fixed noise", settings.seed, same))


def _clean_predictions(
    settings: EvaluationSettings, ids: Tensor, draws: int, predict: Callable[[], Predictions]
) -> Predictions:
    """The predictions on a chunk of clean images, shared by all attacks on the same system."""
    if settings.shared is None:
        return predict()

    def tensors() -> tuple[dict[str, str], dict[str, Tensor]]:
        return {}, predict().tensors

    _, found = settings.shared.get(["clean", settings.system_key, settings.seed, draws, ids.tolist()], tensors)
    return Predictions(**found)
