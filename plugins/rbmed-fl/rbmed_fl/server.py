"""The ServerApp: rounds of one of Flower's strategies, each stored when it is finished. The same under every engine."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy as Aggregator

from rbmed_fl.checkpoint import ServerCheckpoint, ServerState
from rbmed_fl.flower_grid import ClientGrid
from rbmed_fl.local_training import isolated_randomness
from rbmed_fl.states import to_record, to_state
from rbmed_fl.task import TrainingTask
from robustbench_med import seed_of

#: Called with the client's name, the round (from 1) and the figures of its local round.
OnLocalRound = Callable[[str, int, dict[str, float]], None]


def server_app(
    task: TrainingTask,
    state: ServerState,
    checkpoint: ServerCheckpoint | None,
    on_local_round: OnLocalRound,
    patience: float | None = None,
    min_clients: int | None = None,
) -> ServerApp:
    """The server's code: brings ``state`` from its round to the last one.

    Args:
        task: what is trained.
        state: where training resumes; changed after every round.
        checkpoint: where the state is stored after every round.
        on_local_round: called for every reply, before the round is merged.
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
    rounds = _Rounds(task, state, checkpoint, on_local_round, aggregator)
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        with isolated_randomness(seed_of(task.seed, "server"), torch.device("cpu")):
            aggregator.start(
                ClientGrid(grid, names, rounds.add, patience, min_clients),
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
        checkpoint: ServerCheckpoint | None,
        on_local_round: OnLocalRound,
        aggregator: Aggregator,
    ) -> None:
        self.task = task
        self.state = state
        self.checkpoint = checkpoint
        self.on_local_round = on_local_round
        self.aggregator = aggregator
        self.figures: dict[str, dict[str, float]] = {}  # of the current round, by client
        self.began = time.perf_counter()

    def add(self, reply: RecordDict) -> None:
        """Note the figures of one reply."""
        metrics = reply.metric_records["metrics"]
        figures = {name: value for name, value in metrics.items() if not isinstance(value, list)}
        client = self.task.clients[int(figures.pop("partition-id"))]
        self.figures[client] = figures
        self.on_local_round(client, self.state.done + 1, figures)

    def close(self, number: int, arrays: ArrayRecord) -> None:
        """Store the merged model and the figures of the round."""
        if number == 0:  # Flower also calls this before the first round.
            return
        state, names, strategy, now = self.state, self.task.clients, self.task.strategy, time.perf_counter()
        state.done += 1
        state.shared = to_state(arrays, self.task.initial)
        state.aggregator = strategy.aggregator_state(self.aggregator)
        figures = {name: self.figures[name] for name in names if name in self.figures}
        entry = {"round": state.done, "seconds": now - self.began, "clients": figures}
        if suspects := strategy.suspects(self.aggregator):
            entry["suspected"] = [names[index] for index in suspects]
        if missing := [name for name in names if name not in figures]:
            entry["missing"] = missing
        state.history.append(entry)
        self.figures, self.began = {}, now
        if self.checkpoint:
            self.checkpoint.save(state)
