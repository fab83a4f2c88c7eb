"""Flower's deployment: a superlink, and a supernode for each client, here or on the clients' machines.

The server's code runs in a process that the superlink starts, a client's in one that its supernode starts for each
turn. Both are told in text what to build (`rbmed_fl.apps`). What is known here of the run, comes through files: the
server's checkpoint, and one line for each turn.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rbmed_fl.apps import FAILURE, TURNS, Order
from rbmed_fl.engines.certificates import CA
from rbmed_fl.engines.config import Deployment
from rbmed_fl.engines.processes import Machines, await_superlink, environment, scratch
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
order = {order}
"""
_HOME = """\
[superlink]
default = "here"

[superlink.here]
address = {address}
root-certificates = {authority}
"""


def run(params: Deployment, session: Session) -> None:
    """Run a session to its end.

    Raises:
        UsageError: nobody named what is trained in text, the strategy regroups the clients, or a file is missing.
        HarnessError: a client or the server failed, or too few clients replied.
    """
    with scratch() as folder:
        if params.superlink is not None:
            authority = Path(params.certificates or "").expanduser().absolute()
            if not authority.is_file():
                raise UsageError(f"engine 'deployment': there is no file {authority} (certificates)")
            order = _order(params, session, folder)
            await_superlink(params.superlink, authority, 5)
            _submit(session, order, folder, params.superlink, authority, lambda: None)
            return
        for name, split in session.clients.items():
            if set(split.sites) != {name}:
                strategy = type(session.work.federation).__name__
                raise UsageError(f"engine 'deployment' trains at the clients' own sites, and {strategy} regroups them")
        order = _order(params, session, folder)
        nodes = {f"client-{index}": f"partition-id={index}" for index in range(len(session.clients))}
        with Machines(folder, nodes) as machines:
            _submit(session, order, folder, machines.address, folder / CA, machines.tend)


def _order(params: Deployment, session: Session, folder: Path) -> Order:
    """What to build, in text."""
    job, work, checkpoint = session.job, session.work, session.checkpoint
    assert checkpoint is not None
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
    memories = "" if params.elsewhere else str(checkpoint.path.parent.absolute() / "clients")
    return Order(
        # Which engine it is, and its files here, are no one else's business.
        strategy=(strategy.name, {key: value for key, value in strategy.params.items() if key != "engine"}),
        model=model,
        data=origin,
        shape=(len(card.classes), images.shape[1], images.shape[2]),
        seed=job.seed,
        device=str(work.device),
        threads=torch.get_num_threads(),
        clients=list(work.clients),
        identity=checkpoint.identity,
        checkpoint=str(checkpoint.path.parent.absolute()),
        memories=memories,
        outbox=str(folder),
        patience=params.patience,
        enough=params.min_clients or len(work.clients),
    )


def _submit(
    session: Session, order: Order, folder: Path, address: str, authority: Path, tend: Callable[[], None]
) -> None:
    """Let the superlink run the order, and follow it to its end."""
    checkpoint, standing = session.checkpoint, session.standing
    assert checkpoint is not None
    if standing.done == 0:
        checkpoint.save(standing)  # the initial weights, for the server
    app, home = folder / "app", folder / "homes" / "flwr"
    app.mkdir()
    home.mkdir(parents=True, exist_ok=True)
    (app / "pyproject.toml").write_text(_APP.format(order=_toml(order.text())), encoding="utf-8")
    connection = _HOME.format(address=_toml(address), authority=_toml(str(authority)))
    (home / "config.toml").write_text(connection, encoding="utf-8")

    number = str(_flwr(home, "run", str(app), "--format", "json")["run-id"])
    over, turns = False, Turns(folder / TURNS, session)
    try:
        with (folder / "run.log").open("ab") as log:
            status = {"status": ""}
            while not status["status"].startswith("finished"):
                follow = subprocess.Popen(
                    ["flwr", "log", number, "--stream"],
                    env=environment(home), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
                try:
                    while follow.poll() is None:
                        tend()
                        turns.read()
                        time.sleep(0.1)
                finally:
                    follow.kill()
                    follow.wait()
                (status,) = _flwr(home, "list", "--run-id", number, "--format", "json")["runs"]
        over = True
    finally:
        if not over:
            _flwr(home, "stop", number, "--format", "json")
    turns.read()
    _raise_failure(folder, status)
    reached = checkpoint.load()
    assert reached is not None
    vars(standing).update(vars(reached))


class Turns:
    """Passes on the turns that the server has noted in a file since the last look."""

    def __init__(self, path: Path, session: Session) -> None:
        self.path = path
        self.on_turn = session.on_turn
        self.read_so_far = 0

    def read(self) -> None:
        """Whole lines only: the last one may still be under way."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.read_so_far)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.read_so_far += len(line)
                self.on_turn(*json.loads(line))


def _raise_failure(folder: Path, status: dict[str, Any]) -> None:
    """Raise what the server said, or what the superlink says of the run, if it failed."""
    if (folder / FAILURE).exists():
        name, text = json.loads((folder / FAILURE).read_text(encoding="utf-8"))
        raise getattr(errors, name, HarnessError)(text)
    if status["status"] != "finished:completed":
        details = " ".join(str(status.get("status-details", "")).split())
        raise HarnessError(f"the run of the federation ended as {status['status']!r}: {details or 'no reason given'}")


def _flwr(home: Path, *words: str) -> dict[str, Any]:
    """Flower's command line, which is its public interface; returns its JSON."""
    done = subprocess.run(
        ["flwr", *words], env=environment(home), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"success": False, "error-message": (done.stderr or done.stdout)[-500:]}
    if not isinstance(answer, dict) or not answer.get("success"):
        raise HarnessError(f"`flwr {words[0]}` failed: {' '.join(str(answer).split())}")
    return answer


def _toml(text: str) -> str:
    """A TOML string: JSON's, but for one character that TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
