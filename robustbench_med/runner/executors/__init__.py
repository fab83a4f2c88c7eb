"""What runs the cells: this process, separate processes, workers on Ray, or tasks of a Slurm array.

Each executor is imported only where it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from robustbench_med.runner.executors.config import Local, OnRay, OnSlurm, read

if TYPE_CHECKING:
    from robustbench_med.grid.config import RunConfig
    from robustbench_med.runner.evaluator import Evaluator
    from robustbench_med.runner.messages import Job, Message


class Executor(Protocol):
    """Runs jobs."""

    def run(self, jobs: Iterator[Job | None]) -> Iterator[tuple[Job, Message]]:
        """Every job's messages, the last of each `Done`; several jobs may run at a time.

        Args:
            jobs: the next one is taken when a worker is free; None: none is free yet, try again later.
        """


@runtime_checkable
class Submits(Protocol):
    """An executor that has the run done elsewhere, before the jobs are prepared here."""

    def ahead(self) -> Iterator[str]:
        """Hand the run over and wait for its end; yields what is going on, a line each."""


@runtime_checkable
class Warms(Protocol):
    """An executor whose workers may start while the jobs are still prepared."""

    def warm(self, jobs: int) -> None:
        """Start the workers for so many jobs, which `run` gets later; returns before they have started."""

    def stop(self) -> None:
        """End all workers, whatever they are doing."""


def find_executor(config: RunConfig, evaluator: Evaluator) -> Executor:
    """The executor that a configuration names.

    Raises:
        BadParameter: there is no such executor, or not with these parameters.
        UsageError: it is not installed, or does not support the device.
    """
    params = read(config.executor)
    if isinstance(params, OnRay):
        from robustbench_med.runner.executors.ray import RayExecutor

        return RayExecutor(params, config, evaluator)
    if isinstance(params, OnSlurm):
        from robustbench_med.runner.executors.request import Request
        from robustbench_med.runner.executors.slurm import SlurmExecutor

        registry = evaluator.registry
        only = None if registry.only is None else tuple(registry.only)
        return SlurmExecutor(params, Request(config, tuple(registry.files), only, tuple(sys.argv)))
    apart = params.process or params.workers > 1 or params.cpus is not None
    if apart or config.time_limit is not None:
        from robustbench_med.runner.executors.process import ProcessExecutor

        return ProcessExecutor(params, config, evaluator)
    from robustbench_med.runner.executors.local import LocalExecutor

    assert isinstance(params, Local)
    return LocalExecutor(evaluator)
