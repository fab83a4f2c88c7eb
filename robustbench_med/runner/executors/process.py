"""Cells one after another in a separate process, which can be stopped, and whose end does not end the run."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_med.runner.executors.pool import WorkerLost, dispatch
from robustbench_med.runner.messages import Done, Job, Message, pack, unpack

if TYPE_CHECKING:
    from robustbench_med.grid.config import RunConfig
    from robustbench_med.runner.evaluator import Evaluator
    from robustbench_med.runner.executors.config import Local

#: Bytes by which a process may grow after its first cell before it is replaced: a plugin leaks memory.
GROWTH = 2**30


class ProcessExecutor:
    """Runs jobs in a process that is replaced when a cell breaks it, takes too long, or leaks memory.

    Args:
        params: of the executor.
        config: with the time limit of a cell.
        evaluator: gives the plugins that the process loads.
    """

    def __init__(self, params: Local, config: RunConfig, evaluator: Evaluator) -> None:
        self.config, self.evaluator = config, evaluator

    def run(self, jobs: Iterator[Job | None]) -> Iterator[tuple[Job, Message]]:
        """See `Executor`."""
        yield from dispatch(_Process(self.config, self.evaluator), jobs, self.config.time_limit)


class _Process:
    """A pool of one process."""

    size = 1

    def __init__(self, config: RunConfig, evaluator: Evaluator) -> None:
        registry = evaluator.registry
        self.arguments = (worker_config(config), registry.files, registry.only)
        self.process: multiprocessing.process.BaseProcess | None = None
        self.pipe: Connection | None = None
        self.first = 0  # bytes of memory after the first cell

    def send(self, worker: int, job: Job) -> None:
        if self.process is None:
            context = multiprocessing.get_context("spawn")  # threads and CUDA do not survive a fork
            self.pipe, other_end = context.Pipe()
            self.process = context.Process(target=_serve, args=(other_end, *self.arguments), name="cells")
            with _interrupts_withheld():
                self.process.start()
            other_end.close()
            self.first = 0
        assert self.pipe is not None
        try:
            self.pipe.send_bytes(pack(job))
        except OSError:
            return  # the process has died; `receive` raises for it

    def wait(self, workers: list[int], seconds: float) -> int | None:
        assert self.pipe is not None
        return 0 if self.pipe.poll(seconds) else None

    def receive(self, worker: int) -> Message:
        assert self.pipe is not None
        assert self.process is not None
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(10)
            code = self.process.exitcode
            self.stop(worker)
            raise WorkerLost(f"exit code {code}") from None
        return message

    def stop(self, worker: int) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process.close()
        if self.pipe is not None:
            self.pipe.close()
        self.process = self.pipe = None

    def recycle(self, worker: int) -> bool:
        assert self.process is not None
        held = _held(self.process.pid) or 0
        self.first = self.first or held
        if held <= self.first + GROWTH:
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


def _held(pid: int | None) -> int | None:
    """Bytes of memory that a process uses; None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _serve(pipe: Connection, config: RunConfig, files: Sequence[Path], only: Sequence[str] | None) -> None:
    """Run jobs until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    from robustbench_med.plugins.registry import Registry
    from robustbench_med.runner.evaluator import Evaluator

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
