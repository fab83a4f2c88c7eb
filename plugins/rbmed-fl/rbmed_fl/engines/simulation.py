"""Flower's simulation: clients train in Ray's processes, each with the images of one client at a time.

The parent writes each client's images to a separate file; a process maps the file of the client that it trains. Models
are sent in messages. Results are bit-identical to `inprocess` with as many torch threads as a client has here,
``cpus``: sums over a batch are split among threads, and rounding depends on the split.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid, ServerApp

from rbmed_fl.client import client_app, reply_or_error
from rbmed_fl.engines.config import SimulationEngine
from rbmed_fl.engines.inprocess import acting_as
from rbmed_fl.flower_grid import quiet
from rbmed_fl.session import Session
from robustbench_med.errors import HarnessError, UsageError

#: Ray: no usage statistics, no change of CUDA_VISIBLE_DEVICES, workers with this interpreter, and the loopback address
#: only, which it replaces by the machine's own otherwise.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


def run(params: SimulationEngine, session: Session) -> None:
    """Run a session to its end.

    Raises:
        UsageError: Ray is not installed.
        HarnessError: Ray cannot start, or a client failed.
    """
    if find_spec("ray") is None:
        raise UsageError("engine 'simulation' needs Ray; install 'rbmed-fl[simulation]'")
    clients = session.task.clients
    with (
        tempfile.TemporaryDirectory(prefix="rbmed-") as folder,
        quiet(logging.CRITICAL),  # errors are raised
        acting_as(SUPERLINK_NODE_ID),
        _ray(min(params.total, params.cpus * len(clients)), params.gpus > 0),
    ):
        for index, split in enumerate(session.clients.values()):
            parts = {"images": split.images.contiguous(), "labels": split.labels.contiguous()}
            safetensors.torch.save_file(parts, Path(folder) / f"{index}.safetensors")
        app = _client_app(session, Path(folder), params.cpus)
        _simulate(session.server(), app, len(clients), {"num_cpus": params.cpus, "num_gpus": params.gpus})


def _client_app(session: Session, folder: Path, threads: int) -> ClientApp:
    """The clients' code, for any process of this machine."""
    task, stores = session.task, list(session.stores)

    def open_data(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        parts = safetensors.torch.load_file(folder / f"{index}.safetensors")
        return parts["images"], parts["labels"]

    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(threads)
        app = client_app(task, open_data, stores.__getitem__)
        name = task.clients[int(context.node_config["partition-id"])]
        return reply_or_error(name, lambda: app(message, context), message)

    app = ClientApp()
    app.train()(train)
    return app


def _simulate(server: ServerApp, client: ClientApp, clients: int, resources: dict[str, float]) -> None:
    """Flower's `run_simulation`, which runs the server in a thread of its own.

    It runs in a thread too: interrupted in the main thread it would shut Ray down while clients train and wait for
    them. So the server is stopped first, and Flower then ends in order, after the current local rounds.
    """
    from flwr.simulation import run_simulation

    stop, over, failures = threading.Event(), threading.Event(), list[BaseException]()
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        pull = grid.pull_messages

        def pull_unless_stopped(message_ids: Iterable[str]) -> Iterable[Message]:
            if stop.is_set():
                raise HarnessError("the simulation was stopped")
            return pull(message_ids)

        grid.pull_messages = pull_unless_stopped  # type: ignore[method-assign]
        try:
            server(grid, context)
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            failures.append(error)

    def simulate() -> None:
        config: dict[str, Any] = {"client_resources": resources}
        try:
            run_simulation(app, client, clients, backend_config=config)
        except Exception as error:  # noqa: BLE001 (raised in the caller's thread)
            failures.append(HarnessError(f"the simulation failed: {_line(error.__cause__ or error)}"))
        finally:
            over.set()

    flower = threading.Thread(target=simulate, name="flower")
    flower.start()
    try:
        over.wait()  # not join, which treats an interrupted thread as ended (Python issue 45274)
    finally:
        stop.set()
        over.wait()
    if failures:
        raise failures[0]


@contextmanager
def _ray(cores: int, gpu: bool) -> Iterator[None]:
    """Ray on this machine only, without output, in a temporary folder; the caller's process is restored."""
    before = dict(os.environ)
    handler = signal.getsignal(signal.SIGTERM)
    # A short name: Ray creates sockets below it, whose paths are limited to about 100 characters.
    folder = tempfile.mkdtemp(prefix="r")
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in before})
    try:
        with warnings.catch_warnings():
            # Ray leaves log files open when it shuts down.
            warnings.simplefilter("ignore", ResourceWarning)
            import ray

            options: dict[str, Any] = {"num_cpus": cores, "_temp_dir": folder, "_node_ip_address": "127.0.0.1"}
            if not gpu:
                options["num_gpus"] = 0
            try:
                ray.init(
                    include_dashboard=False,
                    log_to_driver=False,
                    configure_logging=False,
                    logging_level=logging.ERROR,
                    **options,
                )
            except Exception as error:
                raise HarnessError(f"Ray cannot start: {_line(error)}") from error
            _restore(handler)  # Ray's would end the training without a word
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


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
