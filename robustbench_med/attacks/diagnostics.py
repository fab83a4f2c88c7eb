"""Is the attack strong enough to be believed? Controls, and figures of how it ran.

After Carlini et al. 2019 ("On evaluating adversarial robustness", arXiv:1902.06705) and Athalye et al. 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch

from robustbench_med.attacks.flags import FLAGS
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import Rung, RungRef, resolve_rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import UnknownName
from robustbench_med.interfaces import Attack
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.random import Stream, seed_of
from robustbench_med.interfaces.results import Outcome, RungResult
from robustbench_med.interfaces.threat import Budget
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry
from robustbench_med.runtime.batching import in_chunks
from robustbench_med.runtime.isolation import isolated

#: Share of the images that the cheap controls look at, and of those attacked again at a huge eps.
CONTROL_SHARE, HUGE_SHARE = 0.25, 0.05
#: Images that the full diagnostics attack again under each variation.
FULL_LIMIT = 64


@dataclass
class Controls:
    """Counts of the active controls, over all clients.

    Attributes:
        n: images under the controls.
        clean, noise: answered correctly as they are, and with noise of the threat's size.
        unstable: answered differently a second time with the same noise.
        huge: images attacked at an eps that allows any image.
        withstood: those of them that the attack never got wrong on its own target model.
        again: full diagnostics only: per variation, images and those on which the system was robust.
        notes: controls that could not be run, and why.
    """

    n: int = 0
    clean: int = 0
    noise: int = 0
    unstable: int = 0
    huge: int = 0
    withstood: int = 0
    again: dict[str, tuple[int, float]] | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, other: Controls) -> None:
        """Add another client's counts."""
        for name in ("n", "clean", "noise", "unstable", "huge", "withstood"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.notes += [note for note in other.notes if note not in self.notes]
        for name, (n, robust) in (other.again or {}).items():
            self.again = self.again or {}
            before = self.again.get(name, (0, 0.0))
            self.again[name] = (before[0] + n, before[1] + robust)


def cheap(
    pipeline: Pipeline, split: Split, index: torch.Tensor, settings: EvaluationSettings, noise: Attack | None, huge: int
) -> Controls:
    """Noise and repetition on a quarter of the images, and the attack at a huge eps on ``huge`` of them."""
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
    _at_huge_eps(found, pipeline, split, index, settings, huge)
    return found


def huge_count(n: int) -> int:
    """How many of a cell's ``n`` images are attacked again at a huge eps."""
    return max(2, round(HUGE_SHARE * n))


def noise_control(registry: Registry) -> Rung | None:
    """The random noise that attacks are compared with, where it is installed."""
    try:
        entry = registry.find("attack", "noise")
    except UnknownName:
        return None
    return resolve_rung(registry, RungRef("oblivious", PartRef(entry.qualified)))


def _at_huge_eps(
    found: Controls, pipeline: Pipeline, split: Split, index: torch.Tensor, settings: EvaluationSettings, huge: int
) -> None:
    """Attack ``huge`` images at an eps that allows any image: an attack that works breaks all of them."""
    rung = _strongest(settings.rungs)
    few = torch.arange(max(0, min(huge, len(split))))
    if rung is None or not len(few):
        return
    pixels = split.images[0].numel()
    eps = {"linf": 1.0, "l2": math.sqrt(pixels), "l1": float(pixels)}[settings.threat.norm]
    threat = replace(settings.threat, eps=eps)
    again = replace(settings, threat=threat, rungs=(rung,), draws=1, watch=True)
    try:
        outcome = measure(pipeline, split.select(few), index[few], again)
    except Exception as error:  # noqa: BLE001 -- a control that cannot run is noted, and the cell goes on without it
        found.notes.append(f"no attack at a huge eps: {type(error).__name__}: {' '.join(str(error).split())}"[:200])
        return
    found.huge += len(few)
    found.withstood += int((outcome.rungs[0].top <= 0).sum())


def _strongest(rungs: Sequence[Rung]) -> Rung | None:
    """The rung with the most exact gradient, of those that follow one."""
    for access in ("full", "bpda", "oblivious"):
        for rung in rungs:
            if rung.access == access and rung.follows_gradient:
                return rung
    return None


def full(pipeline: Pipeline, split: Split, index: torch.Tensor, settings: EvaluationSettings) -> Controls:
    """The attack again with other eps, steps and seed, on at most `FULL_LIMIT` images."""
    rows = torch.arange(min(len(split), FULL_LIMIT))
    part, ids = split.select(rows), index[rows]
    variations: dict[str, EvaluationSettings] = {
        "as_asked": settings,
        "half_eps": replace(settings, threat=replace(settings.threat, eps=settings.threat.eps / 2)),
        "double_eps": replace(settings, threat=replace(settings.threat, eps=settings.threat.eps * 2)),
        "other_seed": replace(settings, seed=settings.seed + 1),
    }
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


def report(level: str, outcome: Outcome, metrics: dict[str, Any], controls: Controls, seconds: float) -> dict[str, Any]:
    """The ``diagnostics`` of a record: level, figures, raised flags, and what they cost in seconds."""
    figures = _figures(outcome, controls)
    return {
        "level": level,
        "figures": figures,
        "flags": [flag for flag in FLAGS if flag in _raised(outcome, metrics, controls, figures)],
        "notes": controls.notes,
        "seconds": seconds,
    }


def _figures(outcome: Outcome, controls: Controls) -> dict[str, float | None]:
    calls = sum(int(rung.backward_calls.sum()) for rung in outcome.rungs)
    figures: dict[str, float | None] = {
        "zero_gradients": _ratio(sum(int(rung.zero.sum()) for rung in outcome.rungs), calls),
        "undefined_gradients": _ratio(sum(int(rung.broken.sum()) for rung in outcome.rungs), calls),
        "loss_not_rising": _ratio(*_flat(outcome.rungs)),
        "logit_spread": max((rung.spread for rung in outcome.rungs if rung.spread is not None), default=None),
        "noise_accuracy": _ratio(controls.noise, controls.n),
        "control_clean_accuracy": _ratio(controls.clean, controls.n),
        "unstable": _ratio(controls.unstable, controls.n),
        "withstood_huge_eps": _ratio(controls.withstood, controls.huge),
    }
    for name, (n, robust) in (controls.again or {}).items():
        figures[f"robust_{name}"] = robust / n
    return figures


def _flat(rungs: Sequence[RungResult]) -> tuple[int, int]:
    """Images whose margin never rose above its first value, and images attacked with more than one gradient."""
    flat = could = 0
    for rung in rungs:
        open_ = rung.attacked & (rung.first <= 0) & rung.first.isfinite() & (rung.backward_calls > 1)
        could += int(open_.sum())
        flat += int((open_ & (rung.top <= rung.first)).sum())
    return flat, could


def _raised(
    outcome: Outcome, metrics: dict[str, Any], controls: Controls, figures: dict[str, float | None]
) -> set[str]:
    def above(name: str, limit: float) -> bool:
        value = figures.get(name)
        return value is not None and value > limit

    n = len(outcome.labels)
    flags = {
        "zero-gradients": above("zero_gradients", 0.05),
        "undefined-gradients": above("undefined_gradients", 0.0),
        "no-gradient": any("no gradient" in rung.reason for rung in outcome.rungs),
        "loss-not-rising": above("loss_not_rising", 0.1),
        "survives-huge-eps": controls.withstood > 0,
        # At least three images and 3 %: rounding and chance do less.
        "noise-hurts": controls.clean - controls.noise >= max(3, 0.03 * controls.n),
        "unstable": controls.unstable > 0,
        "probabilities": any(rung.probabilities for rung in outcome.rungs),
        "large-logits": above("logit_spread", 100.0),
        "blind-detector": _blind(metrics.get("detector_auroc"), n),
        "black-box-wins": _black_box_wins(outcome.rungs) >= max(2, 0.02 * n),
        "budget-exhausted": any(rung.exhausted for rung in outcome.rungs),
    }
    if controls.again:
        asked = figures["robust_as_asked"] or 0.0
        slack = 2 / max(1, controls.again["as_asked"][0])
        flags["eps-not-monotone"] = above("robust_as_asked", (figures["robust_half_eps"] or 0.0) + slack) or above(
            "robust_double_eps", asked + slack
        )
        flags["not-converged"] = "robust_double_steps" in figures and asked > (
            (figures["robust_double_steps"] or 0.0) + slack
        )
        flags["steps-help-defender"] = above("robust_double_steps", asked + slack)
        flags["restart-spread"] = abs(asked - (figures["robust_other_seed"] or 0.0)) > 2 * slack
    return {flag for flag, is_raised in flags.items() if is_raised}


def _blind(auroc: float | None, n: int) -> bool:
    """Chance lies within two standard errors of the AUROC (Hanley & McNeil 1982, under the null hypothesis)."""
    return auroc is not None and n > 0 and auroc - 0.5 < 2 * math.sqrt((2 * n + 1) / (12 * n * n))


def _black_box_wins(rungs: Sequence[RungResult]) -> int:
    """Images broken by an attack that sees less, after one with gradients had been tried on them.

    ``query`` comes after every gradient rung, ``transfer`` after ``oblivious`` (the classifier's own gradient).
    """
    won = 0
    for before, rung in pairwise(rungs):
        if rung.access in ("query", "transfer") and not rung.reason:
            won += int(((before.robust > 0) & (rung.robust == 0)).sum())
    return won


def _ratio(count: int, total: int) -> float | None:
    return count / total if total else None
