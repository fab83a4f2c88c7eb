"""Runs attacks on small pipelines the way a cell does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustbench_med import Split
from robustbench_med.attacks import controls, diagnostics, huge_eps
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import Rung, RungRef, resolve_rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.attack import Attack
from robustbench_med.interfaces.results import Outcome
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import PartRef, parse
from robustbench_med.plugins.registry import Registry

REGISTRY = Registry()


def attack(text: str) -> Attack:
    made: Attack = create(REGISTRY, "attack", parse(text))
    return made


def rung(access: str, text: str, eot: int = 1, evasion: str = "orthogonal") -> Rung:
    return resolve_rung(REGISTRY, RungRef(access, parse(text), eot, evasion))


def rung_of(attack: Any, access: str = "oblivious", **more: Any) -> Rung:
    """The rung of an attack that is no plugin."""
    return Rung(RungRef(access, PartRef(type(attack).__name__.lower())), attack, **more)


def split(x: Tensor, y: Tensor) -> Split:
    names = tuple(f"p{i}" for i in range(len(x)))
    return Split(images=x, labels=y, patients=names, sites=("here",) * len(x))


def settings(*rungs: Rung, threat: ThreatModel, classes: int = 2, **more: Any) -> EvaluationSettings:
    return EvaluationSettings(
        threat=threat, rungs=rungs, num_classes=classes, lesion_class=1, device=torch.device("cpu"), **more
    )


def run(pipeline: Pipeline, x: Tensor, y: Tensor, how: EvaluationSettings) -> Outcome:
    return measure(pipeline, split(x, y), torch.arange(len(x)), how)


def examined(pipeline: Pipeline, x: Tensor, y: Tensor, how: EvaluationSettings) -> dict[str, Any]:
    """The ``diagnostics`` of a record, cheap level."""
    outcome, index = run(pipeline, x, y, how), torch.arange(len(x))
    noise = attack("noise")
    (huge,) = huge_eps.numbers([len(x)], how.rungs)
    found = controls.cheap(pipeline, split(x, y), index, how, noise, huge)
    metrics: dict[str, Any] = {}
    for entry in REGISTRY.entries("metric"):
        metrics |= create(REGISTRY, "metric", parse(entry.qualified)).compute(outcome)
    return diagnostics.report("cheap", outcome, metrics, found, 0.0)


def accuracy(outcome: Outcome) -> float:
    return float(outcome.attacked.robust(outcome.labels).float().mean())
