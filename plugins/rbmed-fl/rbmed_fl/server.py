"""The ServerApp: rounds of one of Flower's strategies, each stored when it is finished. The same under every engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy as Aggregator

from rbmed_fl.checkpoint import ServerCheckpoint, ServerState
from rbmed_fl.flower_grid import ClientGrid
from rbmed_fl.local_training import isolated_randomness
from rbmed_fl.privacy import parse_privacy
from rbmed_fl.private_mean import PrivateMean
from rbmed_fl.screening import Screen
from rbmed_fl.secure_aggregation import parse_secure_aggregation
from rbmed_fl.secure_grid import SecureGrid
from rbmed_fl.states import to_record, to_state
from rbmed_fl.task import TrainingTask
from robustbench_med import seed_of

#: Called with the client's name, the round (from 1), and the figures of its local round or what the server notes of it.
OnLocalRound = Callable[[str, int, dict[str, float] | str], None]


def server_app(
    task: TrainingTask,
    state: ServerState,
    checkpoint: ServerCheckpoint,
    on_local_round: OnLocalRound,
    patience: float | None = None,
    min_clients: int | None = None,
) -> ServerApp:
    """The server's code: brings ``state`` from its round to the last one.

    Args:
        task: what is trained.
        state: where training resumes; changed after every round.
        checkpoint: where the state is stored after every round.
        on_local_round: called for every reply, before the round is merged, and for what the server notes of a client.
        patience: seconds to wait for the next reply before a client is missing; None: for ever.
        min_clients: number of replies that are enough for a round; None: all clients.
    """
    strategy, names = task.strategy, task.clients
    aggregator = strategy.aggregator(
        task.parameters,
        min_train_nodes=len(names),
        min_available_nodes=len(names),
        fraction_evaluate=0.0,
        train_metrics_aggr_fn=lambda replies, weight: MetricRecord(),
    )
    strategy.restore_aggregator(aggregator, state.aggregator)
    privacy, secure = (
        parse_privacy(strategy.params.privacy),
        parse_secure_aggregation(strategy.params.secure_aggregation),
    )
    merging = PrivateMean(aggregator, privacy, task.seed) if privacy else aggregator
    # With privacy, updates are clipped, and none is left out for its length, which would depend on the images.
    screen = Screen(merging, names, 0 if privacy else strategy.params.update_limit)
    rounds = _Rounds(task, state, checkpoint, on_local_round, aggregator, screen)
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        with isolated_randomness(seed_of(task.seed, "server"), torch.device("cpu")):
            clients = ClientGrid(grid, names, rounds.add, rounds.note_absence, patience, min_clients)
            screen.start(
                SecureGrid(clients, secure, 1 if privacy else task.most_examples) if secure else clients,
                to_record(state.shared),
                num_rounds=strategy.params.rounds - state.done,
                train_config=ConfigRecord({"rounds-before": state.done}),
                evaluate_fn=rounds.close,
            )

    return app


class _Rounds:
    """Collects the replies of a round and updates the server state at its end."""

    def __init__(
        self,
        task: TrainingTask,
        state: ServerState,
        checkpoint: ServerCheckpoint,
        on_local_round: OnLocalRound,
        aggregator: Aggregator,
        screen: Screen,
    ) -> None:
        self.task = task
        self.state = state
        self.checkpoint = checkpoint
        self.on_local_round = on_local_round
        self.aggregator = aggregator
        self.screen = screen
        self.figures: dict[str, dict[str, float]] = {}  # of the current round, by client
        self.absent: dict[str, str] = {}  # likewise: why
        self.began = time.perf_counter()

    def add(self, reply: RecordDict) -> None:
        """Note the figures of one reply."""
        metrics = reply.metric_records["metrics"]
        figures = {name: value for name, value in metrics.items() if not isinstance(value, list)}
        client = self.task.clients[int(figures.pop("partition-id"))]
        self.figures[client] = figures
        self.on_local_round(client, self.state.done + 1, figures)

    def note_absence(self, index: int, reason: str) -> None:
        """Note that a client says that it is absent in this round."""
        client = self.task.clients[index]
        self.absent[client] = reason
        self.on_local_round(client, self.state.done + 1, reason)

    def close(self, number: int, arrays: ArrayRecord) -> None:
        """Store the merged model and the figures of the round."""
        if number == 0:  # Flower also calls this before the first round.
            return
        state, strategy, now = self.state, self.task.strategy, time.perf_counter()
        state.done += 1
        state.shared = to_state(arrays, self.task.initial)
        state.aggregator = strategy.aggregator_state(self.aggregator)
        state.history.append(self._entry(now))
        self.figures, self.absent, self.began = {}, {}, now
        self.checkpoint.save(state)

    def _entry(self, now: float) -> dict[str, Any]:
        """What the history has on the round that has just been merged."""
        state, names = self.state, self.task.clients
        figures = {name: self.figures[name] for name in names if name in self.figures}
        entry: dict[str, Any] = {"round": state.done, "seconds": now - self.began, "clients": figures}
        if self.screen.merged and (suspects := self.task.strategy.suspects(self.aggregator)):
            entry["suspected"] = [names[index] for index in suspects]
        if missing := [name for name in names if name not in figures]:
            entry["missing"] = missing
        if self.absent:
            entry["absent"] = self.absent
        if refused := {names[index]: reason for index, reason in self.screen.refused.items()}:
            entry["refused"] = refused
            for client, reason in refused.items():
                self.on_local_round(client, state.done, f"refused: {reason}")
        if not self.screen.merged:
            entry["skipped"] = True
        if privacy := parse_privacy(self.task.strategy.params.privacy):
            releases = self.screen.merged + sum(not past.get("skipped") for past in state.history)
            if releases and (epsilon := privacy.epsilon(releases)) is not None:
                entry["privacy"] = {"epsilon": epsilon, "delta": privacy.delta}
        return entry
