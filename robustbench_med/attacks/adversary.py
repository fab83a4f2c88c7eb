"""What an adversary works on: copies of the deployed system, and what its rung shows of them."""

from __future__ import annotations

from torch import Tensor, nn

from robustbench_med.attacks.accelerate import accelerated, attackers
from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.settings import Setting, Step
from robustbench_med.attacks.target_model import PipelineTarget, View
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.random import Stream
from robustbench_med.runtime.speed import Speed


class Systems:
    """The deployed system, and copies of it that attacks work on.

    Args:
        pipeline: the deployed system; it alone scores.
        setting: says how fast the copies are to be.
    """

    def __init__(self, pipeline: Pipeline, setting: Setting) -> None:
        self.deployed = pipeline
        self.exact, self.surrogate = attackers(pipeline), _copy(setting.surrogate, Speed())
        self.fast, self.fast_surrogate = self.exact, self.surrogate
        if setting.speed != Speed(prefetch=setting.speed.prefetch):
            self.fast = attackers(pipeline, setting.speed)
            self.fast_surrogate = _copy(setting.surrogate, setting.speed)


def _copy(surrogate: nn.Module | None, speed: Speed) -> nn.Module | None:
    return None if surrogate is None else accelerated(surrogate, speed)


def stream_name(step: Step) -> str:
    """The name of a step's random streams."""
    return f"{step.access}:{step.evasion}" if step.access == "gate" else step.access


def adversary(
    systems: Systems, step: Step, x: Tensor, y: Tensor, ids: Tensor, setting: Setting, speed: Speed | None = None
) -> PipelineTarget:
    """What a step's adversary sees of images (N, C, H, W) with labels and ids, (N,), on a budget of its own."""
    counter = QueryCounter(x, setting.seen(y), setting.threat, setting.budget, setting.watch)
    return seen_by(systems, step, counter, ids, setting, setting.speed if speed is None else speed)


def seen_by(
    systems: Systems, step: Step, counter: QueryCounter, ids: Tensor, setting: Setting, speed: Speed
) -> PipelineTarget:
    """What a step's adversary sees of the images of a counter, which have these ``ids``."""
    fast = speed == setting.speed
    view = View(
        pipeline=systems.fast if fast else systems.exact,
        surrogate=systems.fast_surrogate if fast else systems.surrogate,
        counter=counter, eot=step.eot, goal_class=setting.goal_class, evasion=step.evasion, stand_in=setting.stand_in,
        chunk=setting.batch, speed=speed,
    )  # fmt: skip
    # The defense's noise as this adversary samples it.
    return target_for(view, step.access, Stream.named(f"defense-under-attack:{stream_name(step)}", setting.seed, ids))
