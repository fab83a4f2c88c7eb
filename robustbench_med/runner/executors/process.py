"""Cells in separate processes, which can be stopped, and whose end does not end the run."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from robustbench_med.runner.executors.pool import WorkerLost, dispatch
from robustbench_med.runner.messages import Done, Job, Message, pack, unpack
from robustbench_med.runtime.memory import resident

if TYPE_CHECKING:
    from robustbench_med.grid.config import RunConfig
    from robustbench_med.runner.evaluator import Evaluator
    from robustbench_med.runner.executors.config import Local

#: Bytes by which a process may grow after its first cell before it is replaced: a plugin leaks memory.
GROWTH = 2**30


class ProcessExecutor:
    """Runs jobs in processes, each replaced when a cell breaks it, takes too long, or leaks memory.

    Args:
        params: of the executor.
        config: with the time limit of a cell.
        evaluator: gives the plugins that the processes load.
    """

    def __init__(self, params: Local, config: RunConfig, evaluator: Evaluator) -> None:
        self.config = config
        self.pool = _Processes(params, config, evaluator)

    def warm(self, jobs: int) -> None:
        """See `Warms`."""
        for worker in range(min(jobs, self.pool.size)):
            self.pool.start(worker)

    def stop(self) -> None:
        """See `Warms`."""
        for worker in range(self.pool.size):
            self.pool.stop(worker)

    def run(self, jobs: Iterator[Job | None]) -> Iterator[tuple[Job, Message]]:
        """See `Executor`."""
        yield from dispatch(self.pool, jobs, self.config.time_limit)


class _Processes:
    """A pool of processes, each with a pipe to it."""

    def __init__(self, params: Local, config: RunConfig, evaluator: Evaluator) -> None:
        self.size = params.workers
        threads = params.cpus or max(1, torch.get_num_threads() // self.size)
        self.arguments = (worker_config(config), evaluator.registry.files, evaluator.registry.only, threads)
        self.processes: dict[int, multiprocessing.process.BaseProcess] = {}
        self.pipes: dict[int, Connection] = {}
        self.first: dict[int, int] = {}  # bytes of memory after the first cell

    def start(self, worker: int) -> None:
        """Start a worker unless it runs; returns while it still imports."""
        if worker in self.processes:
            return
        context = multiprocessing.get_context("spawn")  # threads and CUDA do not survive a fork
        self.pipes[worker], other_end = context.Pipe()
        self.processes[worker] = context.Process(
            target=_serve, args=(other_end, *self.arguments), name=f"cells-{worker}"
        )
        with _interrupts_withheld():
            self.processes[worker].start()
        other_end.close()

    def send(self, worker: int, job: Job) -> None:
        self.start(worker)
        with suppress(OSError):  # the process has died; `receive` raises for it
            self.pipes[worker].send_bytes(pack(job))

    def wait(self, workers: list[int], seconds: float) -> int | None:
        ready = multiprocessing.connection.wait([self.pipes[worker] for worker in workers], seconds)
        return next((worker for worker in workers if self.pipes[worker] in ready), None)

    def receive(self, worker: int) -> Message:
        try:
            message: Message = self.pipes[worker].recv()
        except (EOFError, OSError):
            self.processes[worker].join(10)
            code = self.processes[worker].exitcode
            self.stop(worker)
            raise WorkerLost(f"exit code {code}") from None
        return message

    def stop(self, worker: int) -> None:
        if (process := self.processes.pop(worker, None)) is not None:
            process.kill()
            process.join()
            process.close()
            self.pipes.pop(worker).close()
        self.first.pop(worker, None)

    def recycle(self, worker: int) -> bool:
        held = resident(self.processes[worker].pid or 0) or 0
        if held <= self.first.setdefault(worker, held) + GROWTH:
            return False
        self.stop(worker)
        return True


@contextmanager
def _interrupts_withheld() -> Iterator[None]:
    """A process that is started within the block never gets Ctrl-C, not even while it imports; this one gets it after.

    Ctrl-C reaches every process of the terminal, and the run ends its own.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def worker_config(config: RunConfig) -> RunConfig:
    """The configuration of a worker, which trains nothing: the run has trained what was missing."""
    return replace(config, train=False)


def _serve(
    pipe: Connection, config: RunConfig, files: Sequence[Path], only: Sequence[str] | None, threads: int
) -> None:
    """Run jobs until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    from robustbench_med.plugins.registry import Registry
    from robustbench_med.runner.evaluator import Evaluator

    torch.set_num_threads(threads)
    registry = Registry(files, only)
    evaluator = Evaluator(config, registry)
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        for message in evaluator.run(unpack(data, registry)):
            pipe.send(message)
            if isinstance(message, Done):
                break


def _end_with_parent() -> None:
    """A plugin that hangs would otherwise outlive a run that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
