"""Controls beside an attack: what it must break, what must not break by itself, and checks of the system itself.

After Carlini et al. 2019 ("On evaluating adversarial robustness", arXiv:1902.06705) and Athalye et al. 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from robustbench_med.attacks import huge_eps, sanity
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import Rung, RungRef, resolve_rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import UnknownName
from robustbench_med.interfaces.attack import Attack
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.random import Stream, seed_of
from robustbench_med.interfaces.threat import Budget
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry
from robustbench_med.runtime.batching import in_chunks
from robustbench_med.runtime.isolation import isolated

#: Share of the images that the cheap controls look at.
CONTROL_SHARE = 0.25
#: Images that the full diagnostics attack again under each variation.
FULL_LIMIT = 64


@dataclass
class Controls:
    """Counts of the active controls, over all clients.

    Attributes:
        n: images under the controls.
        clean, noise: answered correctly as they are, and with noise of the threat's size.
        unstable: answered differently a second time with the same noise.
        batches: images answered in several batches.
        batch_dependent: those of them that another batch changed.
        modes: images answered in the passes of scores and of attacks.
        mode_dependent: those of them that were answered otherwise in those of attacks.
        noisy: clients whose system draws noise.
        huge: images attacked at an eps that allows any image.
        withstood: those of them that the attack never got wrong on its own target model.
        weights: tensors of the deployed system with values that are not finite.
        absent: classes without a calibration image, over the clients.
        blocked: clients whose detector gives no gradient to a rung that follows it.
        again: full diagnostics only: per variation, images and those on which the system was robust.
        notes: controls that could not be run, and what was found in detail.
    """

    n: int = 0
    clean: int = 0
    noise: int = 0
    unstable: int = 0
    batches: int = 0
    batch_dependent: int = 0
    modes: int = 0
    mode_dependent: int = 0
    noisy: int = 0
    huge: int = 0
    withstood: int = 0
    weights: int = 0
    absent: int = 0
    blocked: int = 0
    again: dict[str, tuple[int, float]] | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, other: Controls) -> None:
        """Add another client's counts."""
        for name, value in vars(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        self.notes += [note for note in other.notes if note not in self.notes]
        for name, (n, robust) in (other.again or {}).items():
            self.again = self.again or {}
            before = self.again.get(name, (0, 0.0))
            self.again[name] = (before[0] + n, before[1] + robust)


def cheap(
    pipeline: Pipeline,
    split: Split,
    index: torch.Tensor,
    settings: EvaluationSettings,
    noise: Attack | None,
    huge: range,
) -> Controls:
    """Noise and repetition on a quarter of the images, other batches, weights, and the attack at a huge eps.

    ``huge``: numbers of the images that are attacked at a huge eps, as `huge_eps.numbers` gives them to this client.
    """
    device = settings.device

    def some(part: slice, size: int) -> Controls:
        x, y, ids = split.images[part].to(device), split.labels[part], index[part].to(device)
        scoring = Stream.named("scoring", settings.seed, ids)

        def answers(images: torch.Tensor, seed: str) -> torch.Tensor:
            with isolated(seed_of(settings.seed, seed)):
                return pipeline.decide(images, scoring).predictions[0]

        found = Controls(n=len(x))
        clean = answers(x, "controls")
        found.clean = found.noise = int((clean == y).sum())
        if not pipeline.classifier.stochastic:  # else it is declared
            found.unstable = int((clean != answers(x.clamp(0, 1), "controls again")).sum())
        if noise is not None:
            rng = Stream.named("noise-control", settings.seed, ids)
            noisy = noise.run(None, x, y.to(device), settings.threat, Budget(), rng)  # type: ignore[arg-type]
            found.noise = int((answers(settings.threat.project(noisy, x), "controls") == y).sum())
        return found

    found = Controls()
    for _, part in in_chunks(min(len(split), max(2, round(CONTROL_SHARE * len(split)))), settings.batch, some):
        found.add(part)
    _check_system(found, pipeline, split, index, settings)
    found.huge, found.withstood, notes = huge_eps.attack(pipeline, split, index, settings, huge)
    found.notes += notes
    return found


def noise_control(registry: Registry) -> Rung | None:
    """The random noise that attacks are compared with, where it is installed."""
    try:
        entry = registry.find("attack", "noise")
    except UnknownName:
        return None
    return resolve_rung(registry, RungRef("oblivious", PartRef(entry.qualified)))


def _check_system(
    found: Controls, pipeline: Pipeline, split: Split, index: torch.Tensor, settings: EvaluationSettings
) -> None:
    """What can be seen of a system without an attack."""
    bad = sanity.bad_tensors(pipeline)
    found.weights, found.noisy = len(bad), int(pipeline.stochastic)
    found.notes += [f"not finite: {', '.join(bad[:3])}{' and more' * (len(bad) > 3)}"] * bool(bad)
    gate = pipeline.gate
    if gate is not None and gate.absent:
        found.absent = len(gate.absent)
        site = split.sites[0] if len(split) else "a client"
        found.notes.append(f"no calibration image of class {', '.join(map(str, gate.absent))} at {site}")
    if sanity.gate_without_gradient(pipeline, split, index, settings):
        found.blocked = 1
        who = type(pipeline.detector).__name__
        found.notes.append(f"the score of detector {who} gives no gradient: the rung full does not lower it")
    if not pipeline.classifier.stochastic and len(split) > 1:
        compared = sanity.compare_batches(pipeline, split, index, settings)
        found.batches, found.batch_dependent = compared.images, compared.dependent
        found.unstable += compared.unstable
        found.notes += compared.notes
    if len(split) and not found.unstable:
        modes = sanity.compare_modes(pipeline, split, index, settings)
        found.modes, found.mode_dependent = modes.images, modes.differ
        found.notes += modes.notes


def full(pipeline: Pipeline, split: Split, index: torch.Tensor, settings: EvaluationSettings) -> Controls:
    """The attack again with other eps, steps and seed, on at most `FULL_LIMIT` images."""
    rows = torch.arange(min(len(split), FULL_LIMIT))
    part, ids = split.select(rows), index[rows]
    variations: dict[str, EvaluationSettings] = {
        "as_asked": settings,
        "other_seed": replace(settings, seed=settings.seed + 1),
    }
    if settings.threat.is_ball:
        for name, factor in (("half_eps", 0.5), ("double_eps", 2.0)):
            other = replace(settings.threat, eps=settings.threat.eps * factor)
            variations[name] = replace(settings, threat=other)
    doubled = [_with_steps(rung, 2.0) for rung in settings.rungs]
    if all(rung is not None for rung in doubled):
        variations["double_steps"] = replace(settings, rungs=tuple(rung for rung in doubled if rung is not None))
    again = {}
    for name, variation in variations.items():
        outcome = measure(pipeline, part, ids, variation)
        again[name] = (len(rows), float(outcome.attacked.robust(outcome.labels).float().mean(0).sum()))
    return Controls(again=again)


def _with_steps(rung: Rung, factor: float) -> Rung | None:
    """The same attack with more steps, where it has a parameter of that name."""
    params = rung.attack.params
    if "steps" not in type(params).model_fields:
        return None
    values = params.model_dump() | {"steps": max(1, round(params.steps * factor))}
    return replace(rung, attack=type(rung.attack)(type(params)(**values)))
