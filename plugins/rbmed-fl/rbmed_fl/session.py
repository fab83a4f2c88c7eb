"""One training, from its current round to its last, as an engine runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.serverapp import ServerApp

from rbmed_fl.checkpoint import ClientStore, ServerCheckpoint, ServerState
from rbmed_fl.server import OnLocalRound, server_app
from rbmed_fl.task import TrainingTask
from robustbench_med import Split, TrainJob


@dataclass(frozen=True)
class Session:
    """One training, from its current round to its last.

    Attributes:
        task: what is trained.
        state: the server's state; an engine brings it to the last round.
        checkpoint: where the server stores it after every round.
        clients: training images and labels, by client.
        stores: of the clients' states, in order; empty where the clients are on other machines.
        on_local_round: called with the client's name, the round and the figures of every local round.
        job: the harness's request.
    """

    task: TrainingTask
    state: ServerState
    checkpoint: ServerCheckpoint
    clients: Mapping[str, Split]
    stores: Sequence[ClientStore]
    on_local_round: OnLocalRound
    job: TrainJob

    def server(self) -> ServerApp:
        """The server's code, for engines that run it in this process."""
        return server_app(self.task, self.state, self.checkpoint, self.on_local_round)
