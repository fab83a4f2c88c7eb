"""The base of every strategy: four small questions, and the federation that follows from the answers.

====================================  ===================================================================
what stays local, and is not sent     `Federation.keeps`
how a client trains                   `Federation.fit`
how the server merges                 `Federation.server`, one of Flower's strategies
who takes part                        `Federation.train`, overridden to regroup the clients
====================================  ===================================================================
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import flwr.serverapp.strategy
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch import Tensor

from rbmed_fl.checkpoint import Checkpoint, Standing, digest_clients, digest_state
from rbmed_fl.client import Turn, accuracy, own_randomness, train_epochs
from rbmed_fl.grid import InProcessGrid, acting_as, client_contexts, quiet, server_context
from rbmed_fl.params import TrainParams
from rbmed_fl.records import average, to_record, to_state
from robustbench_med import Classifier, Federated, Params, Split, Strategy, TrainJob, seed_of
from robustbench_med.errors import DataError, UsageError


class Federation(Strategy):
    """A strategy on Flower. As it is: federated averaging of the whole model."""

    Params: ClassVar[type[Params]] = TrainParams

    def keeps(self, classifier: Classifier) -> tuple[str, ...]:
        """Prefixes of the state names that stay with the client; all other state is sent and merged."""
        return ()

    def fit(self, classifier: Classifier, turn: Turn) -> float:
        """Train ``classifier`` in place in one client's turn; return the mean training loss."""
        return train_epochs(classifier, turn, self.params)

    def server(self, **common: Any) -> flwr.serverapp.strategy.Strategy:
        """Flower's strategy that merges the replies.

        Args:
            common: keyword arguments that every Flower strategy takes and must be given (numbers of clients, how
                metrics are collected).
        """
        return flwr.serverapp.strategy.FedAvg(**common)

    def train(self, build: Callable[[], Classifier], clients: Mapping[str, Split], job: TrainJob) -> Federated:
        """Train over the clients, round by round; see `robustbench_med.Strategy.train`.

        With ``job.checkpoints`` every finished round is kept, and training goes on after the last one. ``shared`` is
        complete: entries that stay local are there the weighted mean over the clients (for a site never seen), formed
        here from what is stored anyway, never sent.

        Raises:
            DataError: no client, or one without images.
            UsageError: the model lacks what the strategy keeps local, or a checkpoint is of another federation.
            HarnessError: the training diverged.
        """
        if not clients:
            raise DataError(f"strategy {type(self).__name__} was given no clients; at least one is needed")
        for name, split in clients.items():
            if not len(split):
                raise DataError(f"client {name!r} has no training images; leave it out")
        with own_randomness(seed_of(job.seed, "initial weights"), job.device):
            model = Blueprint.of(build().to(job.device), self.keeps)
        checkpoint = self._checkpoint(model, clients, job)
        standing = (checkpoint and checkpoint.load()) or Standing(0, model.sent, {name: {} for name in clients})
        with quiet(), own_randomness(seed_of(job.seed, "server"), job.device):
            self._run(model, clients, job, standing, checkpoint)
        return assemble(model, clients, standing)

    def _checkpoint(self, model: Blueprint, clients: Mapping[str, Split], job: TrainJob) -> Checkpoint | None:
        if job.checkpoints is None:
            return None
        identity = {
            "strategy": f"{type(self).__module__}.{type(self).__qualname__}",
            "parameters": json.dumps(self.params.model_dump(mode="json"), sort_keys=True),
            "seed": str(job.seed),
            "initial weights": digest_state(model.initial),
            "clients' data": digest_clients(clients),
        }
        return Checkpoint(job.checkpoints, identity)

    def _run(
        self,
        model: Blueprint,
        clients: Mapping[str, Split],
        job: TrainJob,
        standing: Standing,
        checkpoint: Checkpoint | None,
    ) -> None:
        """Bring ``standing`` from its round to the last one."""
        rounds, names = self.params.rounds, list(clients)
        contexts = client_contexts(names)
        for context, personal in zip(contexts, standing.personal.values(), strict=True):
            if personal:
                context.state["personal"] = to_record(personal)
        turns: dict[str, dict[str, Any]] = {}  # of the round under way
        began = time.perf_counter()

        def collect(replies: list[RecordDict], weight: str) -> MetricRecord:
            for reply in replies:
                figures = dict(reply.metric_records["metrics"])
                turns[names[int(str(figures.pop("partition-id")))]] = figures
            return MetricRecord()

        def close_round(number: int, arrays: ArrayRecord) -> None:
            nonlocal began
            if number == 0:  # Flower also asks before the first round.
                return
            standing.done += 1
            standing.shared = to_state(arrays, model.initial)
            standing.personal = {
                name: to_state(context.state.array_records["personal"], model.initial)
                for name, context in zip(names, contexts, strict=True)
            }
            now = time.perf_counter()
            standing.history.append({"round": standing.done, "seconds": now - began, "clients": dict(turns)})
            turns.clear()
            began = now
            if checkpoint:
                checkpoint.save(standing)

        strategy = self.server(
            min_train_nodes=len(names),
            min_available_nodes=len(names),
            fraction_evaluate=0.0,
            train_metrics_aggr_fn=collect,
        )
        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            strategy.start(
                grid,
                to_record(standing.shared),
                num_rounds=rounds - standing.done,
                train_config=ConfigRecord({"rounds-before": standing.done}),
                evaluate_fn=close_round,
            )

        label = f"{type(self).__name__} over {len(names)} client{'s' * (len(names) > 1)}"
        with job.progress.task(label, rounds * len(names)) as task, acting_as(server_context().node_id):
            task.advance(standing.done * len(names))

            def on_reply(reply: Message) -> None:
                task.advance(1, f"loss {reply.content.metric_records['metrics']['loss']:.3f}")

            server(InProcessGrid(self._client_app(model, clients, job), contexts, on_reply), server_context())

    def _client_app(self, model: Blueprint, clients: Mapping[str, Split], job: TrainJob) -> ClientApp:
        """The clients' code. Images and labels are reached here and nowhere else."""
        names = list(clients)
        data = [(split.images.to(job.device), split.labels.to(job.device)) for split in clients.values()]
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            began = time.perf_counter()
            index = int(context.node_config["partition-id"])
            config, received = message.content.config_records["config"], message.content.array_records["arrays"]
            number = int(str(config["rounds-before"])) + int(str(config["server-round"]))
            seed = seed_of(job.seed, "client", names[index], number)
            turn = Turn(names[index], *data[index], number, torch.Generator(job.device).manual_seed(seed))

            state = model.initial | to_state(received, model.initial)
            if "personal" in context.state:
                state |= to_state(context.state.array_records["personal"], model.initial)
            # A copy: whatever else a client does to the module must not reach the next client.
            classifier = copy.deepcopy(model.classifier)
            classifier.load_state_dict(state)
            with own_randomness(seed, job.device):
                loss = self.fit(classifier, turn)
                right = accuracy(classifier, turn, self.params)
            sent, kept = model.divide(classifier.state_dict())
            context.state["personal"] = to_record(kept)
            reply = to_record(sent)
            metrics = MetricRecord(
                {
                    "partition-id": index,
                    "num-examples": len(turn.labels),
                    "loss": loss,
                    "accuracy": right,
                    "seconds": time.perf_counter() - began,
                    "bytes-received": received.count_bytes(),
                    "bytes-sent": reply.count_bytes(),
                }
            )
            return Message(RecordDict({"arrays": reply, "metrics": metrics}), reply_to=message)

        return app


@dataclass(frozen=True)
class Blueprint:
    """The untrained classifier and what of its state is sent.

    Attributes:
        classifier: on the training device; copied, never trained.
        initial: its state, on the CPU.
        local: prefixes of the names that stay with a client.
    """

    classifier: Classifier
    initial: dict[str, Tensor]
    local: tuple[str, ...]

    @classmethod
    def of(cls, classifier: Classifier, keeps: Callable[[Classifier], tuple[str, ...]]) -> Blueprint:
        """Of a fresh classifier."""
        initial = {name: value.detach().cpu().clone() for name, value in classifier.state_dict().items()}
        local = keeps(classifier)
        for prefix in local:
            if not any(name.startswith(prefix) for name in initial):
                raise UsageError(f"no state of {type(classifier).__name__} starts with its personal prefix {prefix!r}")
        return cls(classifier, initial, local)

    def divide(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Split a state into (sent, stays local)."""
        kept = {name: value for name, value in state.items() if name.startswith(self.local)}
        return {name: value for name, value in state.items() if name not in kept}, kept

    @property
    def sent(self) -> dict[str, Tensor]:
        """The part of the initial state that is sent."""
        return self.divide(self.initial)[0]


def assemble(model: Blueprint, clients: Mapping[str, Split], standing: Standing) -> Federated:
    """What the interface asks for, from what server and clients hold after the last round."""
    personal = {name: state for name, state in standing.personal.items() if state}
    shared = standing.shared
    if personal:
        weights = [float(len(clients[name])) for name in personal]
        shared = shared | average(list(personal.values()), weights, model.initial)
    return Federated({name: shared[name] for name in model.initial}, personal, standing.history)
