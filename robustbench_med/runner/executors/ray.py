"""Cells side by side in Ray's actors, on this machine or on the cluster that ``RAY_ADDRESS`` names."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_med.errors import HarnessError, UsageError
from robustbench_med.runner.executors.pool import WorkerLost, dispatch
from robustbench_med.runner.executors.process import worker_config
from robustbench_med.runner.messages import Done, Job, Message, pack, unpack

if TYPE_CHECKING:
    from robustbench_med.grid.config import RunConfig
    from robustbench_med.runner.evaluator import Evaluator
    from robustbench_med.runner.executors.config import OnRay

#: Ray: send no usage statistics, leave CUDA_VISIBLE_DEVICES alone, and start workers with this very interpreter.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


#: Ray started here listens on the loopback address only; otherwise it replaces that by the machine's own address.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class RayExecutor:
    """Runs jobs in Ray's actors, each with its share of the cores or a GPU; a lost one is replaced.

    Args:
        params: of the executor.
        config: with the time limit of a cell.
        evaluator: gives the device and the plugins of the workers.

    Raises:
        UsageError: Ray is not installed, or a GPU is named, which Ray chooses itself.
    """

    def __init__(self, params: OnRay, config: RunConfig, evaluator: Evaluator) -> None:
        if find_spec("ray") is None:
            raise UsageError("executor 'ray' needs Ray; install 'robustbench-med[ray]'")
        if ":" in config.device:
            raise UsageError(f"--device {config.device} names one GPU; executor 'ray' chooses them: auto, cpu or cuda")
        self.params, self.config, self.evaluator = params, config, evaluator
        self._running = ExitStack()
        self._pool: _RayPool | None = None

    def warm(self, jobs: int) -> None:
        """See `Warms`; raises as `run`."""
        pool = self._started()
        for worker in range(min(jobs, pool.size)):
            pool.start(worker)

    def stop(self) -> None:
        """See `Warms`."""
        self._pool = None
        self._running.close()

    def run(self, jobs: Iterator[Job | None]) -> Iterator[tuple[Job, Message]]:
        """See `Executor`.

        Raises:
            HarnessError: Ray cannot start.
            UsageError: it has too few resources for one worker.
        """
        try:
            yield from dispatch(self._started(), jobs, self.config.time_limit)
        finally:
            self.stop()

    def _started(self) -> _RayPool:
        if self._pool is None:
            gpus = self.params.gpus
            if gpus is None:
                gpus = 1.0 if self.evaluator.device.type == "cuda" else 0.0
            self._running.enter_context(_ray(self.params, gpus))
            self._pool = _RayPool(self.params, gpus, self.config, self.evaluator)
        return self._pool


class _Worker:
    """The class of the actors."""

    def __init__(
        self, config: RunConfig, files: Sequence[Path], only: Sequence[str] | None, threads: int, command: list[str]
    ) -> None:
        import torch

        from robustbench_med.plugins.registry import Registry
        from robustbench_med.runner.evaluator import Evaluator

        sys.argv = command  # records name the command that was given
        torch.set_num_threads(threads)
        self.registry = Registry(files, only)
        self.evaluator = Evaluator(config, self.registry)

    def run(self, job: bytes) -> Iterator[Message]:
        """The messages of one packed job."""
        yield from self.evaluator.run(unpack(job, self.registry))


class _RayPool:
    """A pool of actors."""

    def __init__(self, params: OnRay, gpus: float, config: RunConfig, evaluator: Evaluator) -> None:
        import ray

        self.ray = ray
        offered = ray.cluster_resources()
        cores, cards = int(offered.get("CPU", 0)), offered.get("GPU", 0.0)
        room = [cores // params.cpus, *([int(cards / gpus)] if gpus else [])]
        if min(room) < 1:
            raise UsageError(
                f"Ray offers {cores} cores and {cards:g} GPUs, too few for a worker with {params.cpus} and {gpus:g} "
                "(--executor ray:cpus=...,gpus=...)"
            )
        self.size = min(params.workers or min(room), min(room))
        self.actor = ray.remote(num_cpus=params.cpus, num_gpus=gpus, max_restarts=0)(_Worker)
        registry = evaluator.registry
        files = [file.absolute() for file in registry.files]
        self.arguments = (worker_config(config), files, registry.only, params.cpus, list(sys.argv))
        self.actors: dict[int, Any] = {}
        self.messages: dict[int, Any] = {}

    def start(self, worker: int) -> None:
        """Start a worker unless it runs; returns while it still imports."""
        if worker not in self.actors:
            self.actors[worker] = self.actor.remote(*self.arguments)

    def send(self, worker: int, job: Job) -> None:
        self.start(worker)
        method = self.actors[worker].run.options(num_returns="streaming")
        self.messages[worker] = method.remote(pack(job))

    def wait(self, workers: list[int], seconds: float) -> int | None:
        streams = {self.messages[worker]: worker for worker in workers}
        ready, _ = self.ray.wait(list(streams), num_returns=1, timeout=seconds)
        return streams[ready[0]] if ready else None

    def receive(self, worker: int) -> Message:
        try:
            message: Message = self.ray.get(next(self.messages[worker]))
        except (self.ray.exceptions.RayError, StopIteration) as error:
            self.stop(worker)
            raise WorkerLost(" ".join(str(error).split())[:200]) from None
        if isinstance(message, Done):
            del self.messages[worker]
        return message

    def stop(self, worker: int) -> None:
        self.messages.pop(worker, None)
        actor = self.actors.pop(worker, None)
        if actor is not None:
            with suppress(Exception):  # it is dead already
                self.ray.kill(actor)

    def recycle(self, worker: int) -> bool:
        return False


@contextmanager
def _ray(params: OnRay, gpus: float) -> Iterator[None]:
    """Ray: already running, on the cluster of ``RAY_ADDRESS``, or else on this machine, without anything left behind.

    Environment and signal handlers are restored.
    """
    with warnings.catch_warnings():
        # Ray leaves log files open when it shuts down.
        warnings.simplefilter("ignore", ResourceWarning)
        before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
        wanted = _ENVIRONMENT | ({} if before.get("RAY_ADDRESS") else _LOOPBACK)
        os.environ.update({name: value for name, value in wanted.items() if name not in before})
        # A short name: Ray creates sockets in it, whose paths are limited to about 100 characters.
        folder = tempfile.mkdtemp(prefix="r")
        try:
            import ray

            if ray.is_initialized():
                yield
                return
            try:
                ray.init(
                    log_to_driver=False,
                    configure_logging=False,
                    logging_level=logging.ERROR,
                    **({} if os.environ.get("RAY_ADDRESS") else _here(params, gpus, folder)),
                )
            except Exception as error:
                reason = " ".join(str(error).split())
                raise HarnessError(f"Ray cannot start: {type(error).__name__}: {reason}") from error
            _restore(handler)  # Ray's would end the run without a word
            try:
                yield
            finally:
                ray.shutdown()
                gc.collect()
        finally:
            _restore(handler)
            for name in os.environ.keys() - before.keys():
                del os.environ[name]
            os.environ.update(before)
            shutil.rmtree(folder, ignore_errors=True)


def _restore(handler: Any) -> None:
    """Handle SIGTERM as before Ray was started."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _here(params: OnRay, gpus: float, folder: str) -> dict[str, Any]:
    """Options that start Ray on this machine with the cores that the workers request, even where there are fewer."""
    cores = params.cpus * params.workers if params.workers else max(os.cpu_count() or 1, params.cpus)
    options: dict[str, Any] = {
        "num_cpus": cores,
        "_temp_dir": folder,
        "_node_ip_address": "127.0.0.1",
        "include_dashboard": False,
    }
    return options if gpus else {**options, "num_gpus": 0}
