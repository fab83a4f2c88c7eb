"""Flower's deployment: a superlink, and a supernode for each client, here or on the clients' machines.

The server's code runs in a process that the superlink starts, a client's in one that its supernode starts for each
local round. Both build everything from text (`rbmed_fl.apps`). This process follows the run through files: the server's
checkpoint, and one line for each local round.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rbmed_fl.apps import FAILURE, LOCAL_ROUNDS, FederationSpec
from rbmed_fl.engines.certificates import CA
from rbmed_fl.engines.config import DeploymentEngine
from rbmed_fl.engines.flower_cli import configure, environment, flwr, toml
from rbmed_fl.engines.processes import FlowerProcesses, await_superlink, temporary_folder
from rbmed_fl.session import Session
from robustbench_med import errors, load_dataset, parse
from robustbench_med.errors import HarnessError, UsageError

_APP = """\
[project]
name = "rbmed"
version = "1.0.0"
description = "A federation of robustbench-med"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "rbmed"

[tool.flwr.app.components]
serverapp = "rbmed_fl.apps:server"
clientapp = "rbmed_fl.apps:client"

[tool.flwr.app.config]
federation = {federation}
"""


def run(params: DeploymentEngine, session: Session) -> None:
    """Run a session to its end.

    Raises:
        UsageError: `TrainJob.origin` lacks a reference, the strategy regroups the clients, or a file is missing.
        HarnessError: a client or the server failed, or too few clients replied.
    """
    with temporary_folder() as folder:
        if params.superlink is not None:
            authority = Path(params.certificates or "").expanduser().absolute()
            if not authority.is_file():
                raise UsageError(f"engine 'deployment': there is no file {authority} (certificates)")
            spec = _spec(params, session, folder)
            await_superlink(params.superlink, authority, 5)
            _submit(session, spec, folder, params.superlink, authority, lambda: None)
            return
        for name, split in session.clients.items():
            if set(split.sites) != {name}:
                strategy = type(session.task.strategy).__name__
                raise UsageError(f"engine 'deployment' trains at the clients' own sites, and {strategy} regroups them")
        spec = _spec(params, session, folder)
        nodes = {f"client-{index}": f"partition-id={index}" for index in range(len(session.clients))}
        with FlowerProcesses(folder, nodes) as processes:
            _submit(session, spec, folder, processes.address, folder / CA, processes.restart_ended)


def _spec(params: DeploymentEngine, session: Session, folder: Path) -> FederationSpec:
    """The federation as text."""
    job, task, checkpoint = session.job, session.task, session.checkpoint
    kind = next((name for name in ("detector", "purifier") if name in job.origin), "model")
    if missing := [name for name in ("dataset", kind, "strategy") if name not in job.origin]:
        raise UsageError(
            f"engine 'deployment' starts processes that build everything from text, and TrainJob.origin lacks "
            f"{', '.join(missing)}; train with `rbmed train` or robustbench_med.train_defense, or name them"
        )
    origin = dict(job.origin)
    strategy, model = parse(origin.pop("strategy")), (kind, origin.pop(kind))
    images = next(iter(session.clients.values())).images
    card = load_dataset(origin["dataset"], data_root=origin.get("data_root")).card()
    checkpoints = checkpoint.path.parent.absolute()
    return FederationSpec(
        # Other machines need neither the engine nor paths in its parameters.
        strategy=(strategy.name, {key: value for key, value in strategy.params.items() if key != "engine"}),
        model=model,
        data=origin,
        shape=(len(card.classes), images.shape[1], images.shape[2]),
        seed=job.seed,
        device=str(task.device),
        threads=torch.get_num_threads(),
        clients=list(task.clients),
        identity=checkpoint.identity,
        checkpoint=str(checkpoints),
        client_folder="" if params.remote else str(checkpoints / "clients"),
        output=str(folder),
        patience=params.patience,
        min_clients=params.min_clients or len(task.clients),
    )


def _submit(
    session: Session, spec: FederationSpec, folder: Path, address: str, authority: Path, check: Callable[[], None]
) -> None:
    """Submit the run to the superlink and follow it to its end; ``check`` is called again and again meanwhile."""
    checkpoint, state = session.checkpoint, session.state
    if state.done == 0:
        checkpoint.save(state)  # the initial weights, for the server
    app, home = folder / "app", folder / "homes" / "flwr"
    app.mkdir()
    (app / "pyproject.toml").write_text(_APP.format(federation=toml(spec.text())), encoding="utf-8")
    configure(home, address, authority)

    run_id = str(flwr(home, "run", str(app))["run-id"])
    local_rounds = LocalRoundReader(folder / LOCAL_ROUNDS, session)

    def poll() -> None:
        check()
        local_rounds.read()

    finished = False
    try:
        status = _follow(home, run_id, folder / "run.log", poll)
        finished = True
    finally:
        if not finished:
            flwr(home, "stop", run_id)
    local_rounds.read()
    _raise_failure(folder, status)
    reached = checkpoint.load()
    assert reached is not None
    vars(state).update(vars(reached))


def _follow(home: Path, run_id: str, log_file: Path, poll: Callable[[], None]) -> dict[str, Any]:
    """Wait until the run has finished, calling ``poll`` meanwhile; return its entry in `flwr list`."""
    while True:
        with log_file.open("ab") as log:
            log_stream = subprocess.Popen(
                ["flwr", "log", run_id, "--stream"],
                env=environment(home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            while log_stream.poll() is None:
                poll()
                time.sleep(0.1)
        finally:
            log_stream.kill()
            log_stream.wait()
        (status,) = flwr(home, "list", "--run-id", run_id)["runs"]
        if status["status"].startswith("finished"):
            return dict(status)


class LocalRoundReader:
    """Reports the local rounds that the server has appended to a file since the last call."""

    def __init__(self, path: Path, session: Session) -> None:
        self.path = path
        self.on_local_round = session.on_local_round
        self.offset = 0

    def read(self) -> None:
        """Read whole lines only: the last one may be incomplete."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.offset += len(line)
                self.on_local_round(*json.loads(line))


def _raise_failure(folder: Path, status: dict[str, Any]) -> None:
    """Raise the server's error, or the superlink's status of the run, if it failed."""
    if (folder / FAILURE).exists():
        name, text = json.loads((folder / FAILURE).read_text(encoding="utf-8"))
        raise getattr(errors, name, HarnessError)(text)
    if status["status"] != "finished:completed":
        details = " ".join(str(status.get("status-details", "")).split())
        raise HarnessError(f"the run of the federation ended as {status['status']!r}: {details or 'no reason given'}")
