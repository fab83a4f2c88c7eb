"""One training, from where it stands to its last round, and the engine that runs it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.serverapp import ServerApp

from rbmed_fl.checkpoint import Checkpoint, Standing
from rbmed_fl.client_state import Memory
from rbmed_fl.engines.config import read
from rbmed_fl.server import OnTurn, server_app
from rbmed_fl.task import Work
from robustbench_med import Split, TrainJob


@dataclass(frozen=True)
class Session:
    """One training, from where it stands to its last round.

    Attributes:
        work: what is trained.
        standing: where the server stands; an engine leaves it at the last round.
        checkpoint: where the server keeps it after every round, or None.
        clients: training images and labels, by client.
        memories: of the clients, in order; empty where they are on other machines.
        on_turn: called with the client's name, the round and the figures of every turn.
        job: the harness's request.
    """

    work: Work
    standing: Standing
    checkpoint: Checkpoint | None
    clients: Mapping[str, Split]
    memories: Sequence[Memory]
    on_turn: OnTurn
    job: TrainJob

    def server(self) -> ServerApp:
        """The server's code, for engines that run it in this process."""
        return server_app(self.work, self.standing, self.checkpoint, self.on_turn)


def run(engine: str, session: Session) -> None:
    """Run a session to its end on the engine that this text asks for.

    Raises:
        BadParameter: there is no such engine, or not with these parameters.
    """
    name, params = read(engine)
    importlib.import_module(f"rbmed_fl.engines.{name}").run(params, session)
