"""The base of every strategy: the federation that follows from its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rbmed_fl.byzantine import malice
from rbmed_fl.checkpoint import Checkpoint, Standing, digest_clients, digest_state
from rbmed_fl.client_state import InFolder, InMemory, Memory
from rbmed_fl.engines.config import read
from rbmed_fl.flower_grid import quiet
from rbmed_fl.session import Session, run
from rbmed_fl.states import average, under
from rbmed_fl.strategy_base import Answers
from rbmed_fl.task import Work
from robustbench_med import Federated, Learner, Split, TrainJob
from robustbench_med.errors import DataError


class Federation(Answers):
    """A strategy on Flower. As it is: federated averaging of the whole model.

    Override what `Answers` asks, or ``train`` to regroup the clients.
    """

    def train(self, build: Callable[[], Learner], clients: Mapping[str, Split], job: TrainJob) -> Federated:
        """Train over the clients, round by round; see `robustbench_med.Strategy.train`.

        With ``job.checkpoints`` every finished round is kept, and training goes on after the last one. ``shared`` is
        complete: entries that stay local are there the weighted mean over the clients (for a site never seen), formed
        here from what is stored anyway, never sent.

        Raises:
            DataError: no client, or one without images.
            UsageError: the model lacks what the strategy keeps local, or a checkpoint is of another federation.
            HarnessError: the training diverged, or a client failed.
        """
        if not clients:
            raise DataError(f"strategy {type(self).__name__} was given no clients; at least one is needed")
        for name, split in clients.items():
            if not len(split):
                raise DataError(f"client {name!r} has no training images; leave it out")
        engine = read(self.params.engine)[1]
        names = engine.names(clients)
        classes = 1 + max(int(split.labels.max()) for split in clients.values())
        malice(self.params.malicious, names).check(classes)  # a bad value is said before anything is trained
        work = Work.of(self, build, names, job.seed, job.device)
        with ExitStack() as stack:
            if engine.folders and job.checkpoints is None:
                folder = stack.enter_context(TemporaryDirectory(prefix="rbmed-"))
                job = replace(job, checkpoints=Path(folder))
            checkpoint, memories = self._places(work, clients, job)
            standing = (checkpoint and checkpoint.load()) or Standing(0, work.divide(work.initial)[0])
            label = f"{type(self).__name__} over {len(names)} client{'s' * (len(names) > 1)}"
            with quiet(), job.progress.task(label, self.params.rounds * len(names)) as bar:
                bar.advance(standing.done * len(names))

                def on_turn(client: str, number: int, figures: dict[str, float]) -> None:
                    shown = f"loss {figures['loss']:.3g}"
                    if "accuracy" in figures:
                        shown += f", accuracy {100 * figures['accuracy']:.0f} %"
                    bar.advance(1, f"round {number} of {self.params.rounds}, {client}: {shown}")

                if standing.done < self.params.rounds:
                    run(self.params.engine, Session(work, standing, checkpoint, clients, memories, on_turn, job))
            return self._assemble(work, clients, standing, memories)

    def _places(
        self, work: Work, clients: Mapping[str, Split], job: TrainJob
    ) -> tuple[Checkpoint | None, list[Memory]]:
        """Where the server and each client keep what they need in the next round."""
        if job.checkpoints is None:
            return None, [InMemory() for _ in clients]
        fields = type(self.params).model_fields
        runtime = {name for name, info in fields.items() if info.json_schema_extra == {"runtime": True}}
        identity = {
            "strategy": f"{type(self).__module__}.{type(self).__qualname__}",
            "parameters": json.dumps(self.params.model_dump(mode="json", exclude=runtime), sort_keys=True),
            "seed": str(job.seed),
            "initial weights": digest_state(work.initial),
            "clients' data": digest_clients(clients),
        }
        engine = read(self.params.engine)[1]
        memories: list[Memory] = []
        if engine.elsewhere:
            identity["clients' data"] = ", ".join(work.clients)
        else:
            folder, gaps = job.checkpoints / "clients", engine.gaps(len(clients))
            memories = [InFolder(folder / str(index), identity, gaps) for index in range(len(clients))]
        return Checkpoint(job.checkpoints, identity), memories

    def _assemble(
        self, work: Work, clients: Mapping[str, Split], standing: Standing, memories: list[Memory]
    ) -> Federated:
        """What the interface asks for, from what server and clients hold after the last round.

        Of clients on other machines nothing is known: ``personal`` is empty, what they keep stands in ``shared`` as it
        was before the first round, and every entry of the history says ``elsewhere``.
        """
        remembered = {name: memory.recall(standing.done) for name, memory in zip(clients, memories, strict=False)}
        known = {name: memory for name, memory in remembered.items() if memory}
        kept = [under("kept", memory) for memory in known.values()]
        weights = [float(len(clients[name])) for name in known]
        shared = work.initial | standing.shared | (average(kept, weights) if kept else {})
        personal = {name: self.personal(shared, memory) for name, memory in known.items()}
        history = standing.history
        if not memories:
            history = [entry | {"elsewhere": True} for entry in history]
        return Federated({name: shared[name] for name in work.initial}, personal, history)
