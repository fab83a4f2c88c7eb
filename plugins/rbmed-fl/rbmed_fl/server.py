"""The ServerApp: rounds of one of Flower's strategies, each kept when it is finished. The same under every engine."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp

from rbmed_fl.checkpoint import Checkpoint, Standing
from rbmed_fl.flower_grid import Attended
from rbmed_fl.local_training import own_randomness
from rbmed_fl.states import to_record, to_state
from rbmed_fl.task import Work
from robustbench_med import seed_of

#: Called with the client's name, the round (from 1) and the figures of its turn.
OnTurn = Callable[[str, int, dict[str, float]], None]


def server_app(
    work: Work,
    standing: Standing,
    checkpoint: Checkpoint | None,
    on_turn: OnTurn,
    patience: float | None = None,
    enough: int | None = None,
) -> ServerApp:
    """The server's code: brings ``standing`` from its round to the last one.

    Args:
        work: what is trained.
        standing: where to go on; changed after every round.
        checkpoint: where to keep it.
        on_turn: called for every reply, before the round is merged.
        patience: seconds to wait for the next reply before a client is missing; None: for ever.
        enough: clients that must reply for a round to go on without the missing; None: all.
    """
    federation, names = work.federation, work.clients
    turns: dict[str, dict[str, float]] = {}  # of the round under way
    began = time.perf_counter()
    merger = federation.server(
        work.parameters,
        min_train_nodes=len(names),
        min_available_nodes=len(names),
        fraction_evaluate=0.0,
        train_metrics_aggr_fn=lambda replies, weight: MetricRecord(),
    )
    federation.restore(merger, standing.server)

    def on_reply(reply: RecordDict) -> None:
        figures = {
            name: value for name, value in reply.metric_records["metrics"].items() if not isinstance(value, list)
        }
        name = names[int(figures.pop("partition-id"))]
        turns[name] = figures
        on_turn(name, standing.done + 1, figures)

    def close_round(number: int, arrays: ArrayRecord) -> None:
        nonlocal began
        if number == 0:  # Flower also asks before the first round.
            return
        standing.done += 1
        standing.shared = to_state(arrays, work.initial)
        standing.server = federation.remember(merger)
        now = time.perf_counter()
        figures = {name: turns[name] for name in names if name in turns}
        entry = {"round": standing.done, "seconds": now - began, "clients": figures}
        if suspects := federation.suspects(merger):
            entry["suspected"] = [names[index] for index in suspects]
        if missing := [name for name in names if name not in turns]:
            entry["missing"] = missing
        standing.history.append(entry)
        turns.clear()
        began = now
        if checkpoint:
            checkpoint.save(standing)

    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        with own_randomness(seed_of(work.seed, "server"), torch.device("cpu")):
            merger.start(
                Attended(grid, names, on_reply, patience, enough),
                to_record(standing.shared),
                num_rounds=federation.params.rounds - standing.done,
                train_config=ConfigRecord({"rounds-before": standing.done}),
                evaluate_fn=close_round,
            )

    return app
