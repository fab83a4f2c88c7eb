"""Runs attacks on small pipelines the way a cell does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustbench_med import Split
from robustbench_med.attacks import diagnostics
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.settings import Setting, Step
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces import Attack
from robustbench_med.interfaces.results import Outcome
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry

REGISTRY = Registry()


def attack(text: str) -> Attack:
    made: Attack = create(REGISTRY, "attack", parse(text))
    return made


def step(access: str, text: str, eot: int = 1, evasion: str = "orthogonal") -> Step:
    gradient = REGISTRY.find("attack", parse(text).name).spec.access == "gradient"  # type: ignore[attr-defined]
    return Step(f"{access} {text}", access, attack(text), eot, evasion, gradient)


def split(x: Tensor, y: Tensor) -> Split:
    names = tuple(f"p{i}" for i in range(len(x)))
    return Split(images=x, labels=y, patients=names, sites=("here",) * len(x))


def setting(*steps: Step, threat: ThreatModel, classes: int = 2, **more: Any) -> Setting:
    return Setting(
        threat=threat, steps=steps, num_classes=classes, lesion_class=1, device=torch.device("cpu"), **more
    )  # fmt: skip


def run(pipeline: Pipeline, x: Tensor, y: Tensor, how: Setting) -> Outcome:
    return measure(pipeline, split(x, y), torch.arange(len(x)), how)


def examined(pipeline: Pipeline, x: Tensor, y: Tensor, how: Setting) -> dict[str, Any]:
    """The ``diagnostics`` of a record, cheap level."""
    outcome, index = run(pipeline, x, y, how), torch.arange(len(x))
    noise = attack("noise")
    controls = diagnostics.cheap(pipeline, split(x, y), index, how, noise, diagnostics.huge_count(len(x)))
    metrics: dict[str, Any] = {}
    for entry in REGISTRY.entries("metric"):
        metrics |= create(REGISTRY, "metric", parse(entry.qualified)).compute(outcome)
    return diagnostics.report("cheap", outcome, metrics, controls, 0.0)


def accuracy(outcome: Outcome) -> float:
    return float(outcome.attacked.robust(outcome.labels).float().mean())
