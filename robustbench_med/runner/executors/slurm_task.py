"""A task of a Slurm array: the run that was requested, in this process, with a log of each cell.

Slurm starts it as ``python -m robustbench_med.runner.executors.slurm_task FOLDER THREADS``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from robustbench_med.runner.executors.request import Request

if TYPE_CHECKING:
    from robustbench_med.runner.evaluator import Evaluator
    from robustbench_med.runner.messages import Job, Message


class _LoggedExecutor:
    """One cell after another; what plugins print goes to the log of the cell."""

    def __init__(self, evaluator: Evaluator, folder: Path) -> None:
        self.evaluator, self.folder = evaluator, folder

    def run(self, jobs: Iterator[Job | None]) -> Iterator[tuple[Job, Message]]:
        """See `robustbench_med.runner.executors.Executor`."""
        from robustbench_med.runner.messages import Done

        for job in jobs:
            if job is None:
                return  # other tasks measure what is left
            log = self.folder / f"{job.cell_id}.log"
            with _into(log):
                _say(f"{job.cell.short_title}: started in task {os.environ.get('SLURM_ARRAY_TASK_ID', '')}")
            messages = self.evaluator.run(job)
            while True:
                with _into(log):
                    message = next(messages)
                    if isinstance(message, Done):
                        _say(f"{job.cell.short_title}: {message.status} {message.reason}")
                yield job, message
                if isinstance(message, Done):
                    break


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def _into(path: Path) -> Iterator[None]:
    """Add standard output and error of the process, also of compiled code, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(1), os.dup(2)]
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for kept, stream in zip(before, (1, 2), strict=True):
            os.dup2(kept, stream)
            os.close(kept)


def _ended(number: int, frame: FrameType | None) -> None:
    """Slurm ends the task, for a time limit or another job: its cell continues after the last finished chunk."""
    try:
        os.write(1, b"terminated: finished chunks are kept; the task, requeued, or the command, run again, goes on\n")
    finally:
        os._exit(128 + number)


def main(folder: Path, threads: int) -> None:
    """Run what was requested; each record is on disk once it is printed."""
    signal.signal(signal.SIGTERM, _ended)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    from robustbench_med.plugins.registry import Registry
    from robustbench_med.runner.runner import Runner

    torch.set_num_threads(threads)
    request = Request.read(folder / "request.json")
    sys.argv = list(request.command)  # records name the command that was given
    runner = Runner(replace(request.config, executor="local"), Registry(list(request.plugins), request.only))
    runner.executor = _LoggedExecutor(runner.evaluator, folder / "logs")
    for record in runner.run():
        _say(f"{record.cell_id} {record.status} {record.reason or ''}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
