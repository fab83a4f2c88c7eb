"""The base of every strategy: federated training on Flower."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import robustbench_med as rbmed
from rbmed_fl.byzantine import parse_byzantine
from rbmed_fl.checkpoint import ClientStore, ServerCheckpoint, ServerState, digest_clients, digest_state
from rbmed_fl.engines.config import parse_engine
from rbmed_fl.faults import parse_faults
from rbmed_fl.params import LATER
from rbmed_fl.privacy import parse_privacy
from rbmed_fl.secure_aggregation import parse_secure_aggregation
from rbmed_fl.states import average, strip_prefix
from rbmed_fl.strategy_base import StrategyBase
from rbmed_fl.task import TrainingTask
from robustbench_med import Federated, Learner, Split, TrainJob
from robustbench_med.errors import DataError, HarnessError, UsageError


class FederatedStrategy(StrategyBase):
    """A strategy on Flower: federated averaging of the whole model by default.

    Override methods of `StrategyBase`, or ``train`` to regroup the clients.
    """

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        asked = [name for name in ("privacy", "secure_aggregation") if getattr(self.params, name) != "none"]
        if asked and not self.averages:
            raise UsageError(
                f"strategy {type(self).__name__} does not merge the mean of the clients' updates; {asked[0]} needs a "
                f"strategy that does, such as fedavg"
            )
        if self.params.ema and self.server_step:
            raise UsageError(
                f"strategy {type(self).__name__} takes a step on the server from what the clients send; ema needs a "
                f"strategy that does not, such as fedavg"
            )
        if "secure_aggregation" in asked and parse_engine(self.params.engine)[0] == "deployment":
            raise UsageError("secure_aggregation works with the engines inprocess and simulation, not with deployment")

    def train(self, build: Callable[[], Learner], clients: Mapping[str, Split], job: TrainJob) -> Federated:
        """Train over the clients, round by round; see `robustbench_med.Strategy.train`.

        With ``job.checkpoints`` every finished round is stored, and training resumes after the last one. ``shared`` is
        complete: its entries that stay local are the weighted mean over the clients (for a site never seen), computed
        here from the stored states; no message contains them.

        Raises:
            DataError: no client, or one without images.
            UsageError: the model lacks the part that stays local, or a checkpoint is of another federation.
            HarnessError: the training diverged, or a client failed.
        """
        from rbmed_fl.flower_grid import quiet  # they import Flower, which who only evaluates does not wait for
        from rbmed_fl.session import Session

        if not clients:
            raise DataError(f"strategy {type(self).__name__} was given no clients; at least one is needed")
        for name, split in clients.items():
            if not len(split):
                raise DataError(f"client {name!r} has no training images; leave it out")
        engine_name, engine = parse_engine(self.params.engine)
        names = engine.client_names(clients)
        classes = 1 + max(int(split.labels.max()) for split in clients.values())
        labels = next(iter(clients.values())).labels
        parse_byzantine(self.params.malicious, names).check(classes, labels.dim() > 1)  # before anything is trained
        parse_faults(self.params.faults, names)
        for option in (parse_privacy(self.params.privacy), parse_secure_aggregation(self.params.secure_aggregation)):
            if option is not None:
                option.check(len(names))
        most = max(len(split) for split in clients.values())
        task = TrainingTask.create(self, build, names, job.seed, job.device, most)
        with ExitStack() as stack:
            if job.checkpoints is None:  # memory does not grow with the number of clients
                folder = stack.enter_context(TemporaryDirectory(prefix="rbmed-"))
                job = replace(job, checkpoints=Path(folder))
            checkpoint, stores = self._storage(task, clients, job)
            state = checkpoint.load() or ServerState(0, task.divide(task.initial)[0])
            label = f"{type(self).__name__} over {rbmed.plural(len(names), 'client')}"
            with quiet(), job.progress.task(label, self.params.rounds * len(names)) as bar:
                bar.advance(state.done * len(names))

                def on_local_round(client: str, number: int, figures: dict[str, float] | str) -> None:
                    refused = isinstance(figures, str) and figures.startswith("refused")  # its reply was counted
                    bar.advance(
                        int(not refused), f"round {number} of {self.params.rounds}, {client}: {_shown(figures)}"
                    )

                if state.done < self.params.rounds:
                    session = Session(task, state, checkpoint, clients, stores, on_local_round, job)
                    importlib.import_module(f"rbmed_fl.engines.{engine_name}").run(engine, session)
            return self._result(task, clients, state, stores)

    def _storage(
        self, task: TrainingTask, clients: Mapping[str, Split], job: TrainJob
    ) -> tuple[ServerCheckpoint, list[ClientStore]]:
        """Where the server and each client store their state between rounds."""
        assert job.checkpoints is not None
        left_out = {
            name
            for name, info in type(self.params).model_fields.items()
            if info.json_schema_extra == {"runtime": True}
            or (info.json_schema_extra == LATER and getattr(self.params, name) == info.default)
        }
        engine = parse_engine(self.params.engine)[1]
        identity = {
            "strategy": f"{type(self).__module__}.{type(self).__qualname__}",
            "parameters": json.dumps(self.params.model_dump(mode="json", exclude=left_out), sort_keys=True),
            "seed": str(job.seed),
            "initial weights": digest_state(task.initial),
            "clients' data": ", ".join(task.clients) if engine.remote else digest_clients(clients),
        }
        stores: list[ClientStore] = []
        if not engine.remote:
            folder = job.checkpoints / "clients"
            may_miss = engine.may_miss_rounds(len(clients)) or self.params.faults != "none"
            stores = [ClientStore(folder / str(index), identity, may_miss) for index in range(len(clients))]
        return ServerCheckpoint(job.checkpoints, identity), stores

    def _result(
        self, task: TrainingTask, clients: Mapping[str, Split], state: ServerState, stores: list[ClientStore]
    ) -> Federated:
        """The trained federation, from the states of server and clients after the last round.

        The states of clients on other machines are not available: ``personal`` is empty, entries that stay local have
        their initial values in ``shared``, and every entry of the history is labelled ``elsewhere``.
        """
        if all(entry.get("skipped") for entry in state.history):
            raise HarnessError(f"every client was absent in every round ({state.done}); nothing was trained")
        loaded = {name: store.load(state.done) for name, store in zip(clients, stores, strict=False)}
        known = {name: client_state for name, client_state in loaded.items() if client_state}
        kept = [strip_prefix("kept", client_state) for client_state in known.values()]
        weights = [float(len(clients[name])) for name in known]
        shared = task.initial | state.shared | (average(kept, weights) if kept else {})
        own = {name: self.personal(shared, client_state) for name, client_state in known.items()}
        personal = {name: state for name, state in own.items() if state}  # it may have kept an average only
        history = state.history if stores else [entry | {"elsewhere": True} for entry in state.history]
        return Federated({name: shared[name] for name in task.initial}, personal, history)


def _shown(figures: Mapping[str, float] | str) -> str:
    """What the display says of a local round."""
    if isinstance(figures, str):
        return figures
    text = f"loss {figures['loss']:.3g}"
    return f"{text}, accuracy {100 * figures['accuracy']:.0f} %" if "accuracy" in figures else text
