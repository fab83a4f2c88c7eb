"""A step of an attack, its gradient included, is one graph to torch's compiler, and gives the same images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import GradientAttack, State
from rbmed_attacks.gradients import differentiate
from robustbench_med.testing import toy_images, toy_target

STEPS = 6
#: Attacks and norms whose steps differ.
CASES = [
    *(("apgd", norm) for norm in ("linf", "l2", "l1")),
    ("apgd:targeted=true", "linf"),
    ("lee-kim", "linf"),
    ("mifgsm", "l2"),
    ("momentum", "linf"),
    ("pgd", "linf"),
]


def images(name: str, norm: str, through: Callable[[Callable[[], None]], Callable[[], None]]) -> list[Tensor]:
    """The iterates of a run whose step goes ``through`` a function, and what it has found."""
    attack = rbmed.load_component("attack", f"{name}{',' if ':' in name else ':'}steps={STEPS}")
    assert isinstance(attack, GradientAttack)
    target, threat = toy_target(), rbmed.ThreatModel(norm, 0.02 if norm == "linf" else 0.5)
    x, _ = toy_images()
    with torch.no_grad():
        y = target(x).argmax(1)
    objective, state = attack.objective(), State(threat, x, y, 1 - y, x.clone())

    def loss_of(draws: Tensor) -> Tensor:
        return objective(draws, state.y, state.target)

    state.begin(*differentiate(target, state.now, loss_of))
    rule, passed = attack.step(state, STEPS), []

    def step() -> None:
        state.now = state.project(rule.next(state))
        logits, loss, state.grad = differentiate(target, state.now, loss_of)
        state.update(logits, loss)
        rule.learn(state)

    taken = through(step)
    for _ in range(STEPS):
        taken()
        passed.append(state.now.clone())
    return [*passed, state.best, state.best_loss, state.wrong, state.broken]


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_step_is_one_graph(name: str, norm: str) -> None:
    import torch._dynamo as compiler

    compiler.reset()
    with compiler.config.patch(trace_autograd_ops=True):
        traced = images(name, norm, lambda step: torch.compile(step, backend="eager", fullgraph=True))
    assert compiler.utils.counters["stats"]["unique_graphs"] > 0
    for found, expected in zip(traced, images(name, norm, lambda step: step), strict=True):
        torch.testing.assert_close(found, expected)
