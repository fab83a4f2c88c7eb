"""Who runs the cells: this process, a process of their own, or workers on Ray.

Nothing heavy is imported before a run asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from robustbench_med.runner.executors.config import Local, OnRay, read

if TYPE_CHECKING:
    from robustbench_med.grid.config import RunConfig
    from robustbench_med.runner.evaluator import Evaluator
    from robustbench_med.runner.messages import Job, Message

__all__ = ["Executor", "find_executor"]


class Executor(Protocol):
    """Runs jobs."""

    def run(self, jobs: Iterator[Job | None]) -> Iterator[tuple[Job, Message]]:
        """Every job's messages, the last of each `Done`; jobs may be at work side by side.

        Args:
            jobs: asked for the next one when there is room for it; None: there is none yet, ask again.
        """


def find_executor(config: RunConfig, evaluator: Evaluator) -> Executor:
    """The executor that a configuration names.

    Raises:
        BadParameter: there is no such executor, or not with these parameters.
        UsageError: it is not installed, or does not go with the device.
    """
    params = read(config.executor)
    if isinstance(params, OnRay):
        from robustbench_med.runner.executors.ray import RayExecutor

        return RayExecutor(params, config, evaluator)
    if params.process or config.time_limit is not None:
        from robustbench_med.runner.executors.process import ProcessExecutor

        return ProcessExecutor(params, config, evaluator)
    from robustbench_med.runner.executors.local import LocalExecutor

    assert isinstance(params, Local)
    return LocalExecutor(evaluator)
