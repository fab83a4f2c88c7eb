"""One cell -> its record: loads what it needs, attacks chunk by chunk, summarises.

It writes nothing: what is finished leaves as messages, so that a cell can run in any process.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from robustbench_med.attacks import diagnostics
from robustbench_med.attacks.batch_size import Sizes
from robustbench_med.attacks.measure import measured
from robustbench_med.attacks.settings import Setting, Step
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.defenses.resolved import key_of
from robustbench_med.errors import DataError, HarnessError, NotDefined, UnknownName
from robustbench_med.files.provenance import peak_memory, provenance
from robustbench_med.grid.cell import Cell, label
from robustbench_med.grid.config import RunConfig
from robustbench_med.grid.plan import needs
from robustbench_med.interfaces import Attack
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.results import Outcome
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.tracebacks import PluginTraceback, plugin_traceback
from robustbench_med.progress import Progress, Silent
from robustbench_med.records import fairness
from robustbench_med.records.record import Record, flatten
from robustbench_med.runner import checkpoints, describe
from robustbench_med.runner.checkpoints import Tally, timed
from robustbench_med.runner.messages import Begun, Checkpoint, Done, Job, Message
from robustbench_med.runtime.batching import chunk_size, find_device
from robustbench_med.runtime.cache import SharedResults, stamp
from robustbench_med.runtime.speed import Speed
from robustbench_med.training.loader import Loader


class Evaluator:
    """Runs cells of one configuration.

    Args:
        config: what to run.
        registry: where the components come from.
        progress: opens progress bars.

    Raises:
        UsageError: the device or the batch size cannot be had.
    """

    def __init__(self, config: RunConfig, registry: Registry, progress: Progress | None = None) -> None:
        self.config = config
        self.registry = registry
        self.device = find_device(config.device)
        chunk_size(config.batch_size, self.device)  # a bad batch size is said before anything runs
        self.loader = Loader(registry, self.device, config.data_root, progress or Silent(), config.train)
        self.stamp = stamp(registry, self.device)
        self.speed = Speed(config.precision, config.compile, config.channels_last, config.prefetch)
        self._shared = SharedResults(self.stamp) if config.share else None
        self._sizes = Sizes(config.batch_size, self.device)
        #: By cell, the plugins that broke in this run.
        self.tracebacks: dict[str, PluginTraceback] = {}
        self._metrics = [create(registry, "metric", PartRef(entry.qualified)) for entry in registry.entries("metric")]

    # --- what a cell is about ---

    def deployment(self, cell: Cell) -> Deployment:
        """The trained defense."""
        return self.loader.deployment(cell.trained, self.explicit(cell))

    def explicit(self, cell: Cell) -> Path | None:
        """The weights that were named; they are not the baseline's."""
        baseline = self.config.baseline
        return None if baseline and cell.defense.name == baseline else self.config.weights

    def surrogate(self, cell: Cell) -> Deployment | None:
        """The defense whose classifier `transfer` attacks; None where no rung is `transfer` (any more)."""
        wanted = any(rung.access == "transfer" for rung in cell.rungs)
        return self.loader.deployment(cell.surrogate) if wanted and cell.surrogate else None

    def job(self, cell: Cell) -> Job:
        """The cell with its id and its weights."""
        deployment, surrogate = self.deployment(cell), self.surrogate(cell)
        return Job(
            cell, _id(cell, deployment, surrogate), deployment.artifact.folder,
            surrogate.artifact.folder if surrogate else None,
        )  # fmt: skip

    def steps(self, cell: Cell) -> tuple[Step, ...]:
        """The attacks of the cell's rungs, built."""
        steps = []
        for rung in cell.rungs:
            attack: Attack = create(self.registry, "attack", rung.attack)
            eot = max(rung.eot or cell.eot, attack.eot or 1)
            gradient = needs(self.registry, rung.attack) == "gradient"
            steps.append(Step(label(rung), rung.access, attack, eot, rung.evasion or "orthogonal", gradient))
        return tuple(steps)

    # --- running it ---

    def run(self, job: Job) -> Iterator[Message]:
        """Run one cell; the last message is `Done`, whatever happens."""
        try:
            yield from self._run(job)
        except NotDefined as error:
            yield Done(status="skipped", reason=str(error))
        except Exception as error:  # noqa: BLE001
            # A failure is data: whatever a plugin raises becomes this cell's record, and the other cells still run.
            reason = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
            yield Done(status="failed", reason=reason[:500], traceback=plugin_traceback(error, self.registry))

    def _run(self, job: Job) -> Iterator[Message]:
        cell = job.cell
        self.loader.pin(cell.trained, job.weights)
        if cell.surrogate is not None and job.surrogate is not None:
            self.loader.pin(cell.surrogate, job.surrogate)
        deployment, surrogate = self.deployment(cell), self.surrogate(cell)
        if _id(cell, deployment, surrogate) != job.cell_id:
            raise HarnessError("data or weights here are not those that the run was planned with")
        test = deployment.dataset.split("test")
        index = self._index(cell, deployment, test)
        pipelines = {client: deployment.pipeline(client) for client in sorted({test.sites[i] for i in index.tolist()})}
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        rows = [index[torch.tensor([test.sites[i] == client for i in index.tolist()])] for client in pipelines]
        done = [checkpoints.finished(job.pieces, number) for number in range(len(rows))]
        tally = Tally({(n, at.start): chunk for n, chunks in enumerate(done) for at, chunk in chunks})
        yield Begun(len(index), tally.images, tally.robust)
        controls, checking, huge = diagnostics.Controls(), 0.0, diagnostics.huge_count(len(index))
        for number, (client, pipeline) in enumerate(pipelines.items()):
            part = test.select(rows[number])
            setting = self._setting(cell, client, deployment, surrogate)
            what = key_of([job.weights, cell.facts, [rung.access for rung in cell.rungs]])
            setting = replace(setting, batch=self._sizes.size(what, pipeline, part, rows[number], setting))
            start = done[number][-1][0].stop if done[number] else 0
            for place, chunk in timed(measured(pipeline, part, rows[number], setting, start)):
                tally.add(number, place.start, chunk)
                self._sizes.lower(what, place, len(part))
                name, images = checkpoints.chunk_name(number, place), place.stop - place.start
                yield Checkpoint(name, checkpoints.encode(chunk), images, tally.robust)
            if self.config.diagnostics == "off":
                continue
            name = checkpoints.controls_name(number)
            data = job.pieces.get(name)
            if data is None:
                found, seconds = self._controls(cell, pipeline, part, rows[number], setting, huge)
                data = checkpoints.encode_controls(found, seconds)
                yield Checkpoint(name, data, 0, tally.robust)
            found, seconds = checkpoints.decode_controls(data)
            controls.add(found)
            checking += seconds
            huge -= found.huge
        chunk = tally.joined()
        (system, *_) = pipelines.values()
        record = self._summarise(cell, system, chunk.outcome, chunk.seconds + checking, controls, checking)
        yield Done(record, checkpoints.encode(chunk))

    def _index(self, cell: Cell, deployment: Deployment, test: Split) -> torch.Tensor:
        """Rows of the test split that the cell looks at, int64 (N,)."""
        card, clients = deployment.dataset.card(), cell.clients or deployment.artifact.clients
        index = rows_to_evaluate(test, clients, cell.limit, cell.threat.goal, card.lesion_class)
        if not len(index):
            raise DataError(f"data set {card.name!r} has no test images of clients {', '.join(cell.clients)}")
        return index

    def _setting(self, cell: Cell, client: str, deployment: Deployment, surrogate: Deployment | None) -> Setting:
        card = deployment.dataset.card()
        return Setting(
            threat=cell.threat, steps=self.steps(cell), num_classes=len(card.classes), lesion_class=card.lesion_class,
            device=self.device, seed=cell.seed, draws=cell.draws, budget=cell.budget,
            surrogate=surrogate.pipeline(client).classifier if surrogate else None, stand_in=cell.stand_in,
            watch=self.config.diagnostics != "off", speed=self.speed, shared=self._shared,
            system=_identity(deployment, client), borrowed=_identity(surrogate, client) if surrogate else "",
        )  # fmt: skip

    def _controls(
        self, cell: Cell, pipeline: Pipeline, part: Split, rows: torch.Tensor, setting: Setting, huge: int
    ) -> tuple[diagnostics.Controls, float]:
        """The controls of one client, and the seconds they took."""
        start = time.perf_counter()
        found = diagnostics.cheap(pipeline, part, rows, setting, self._noise(cell), huge)
        if self.config.diagnostics == "full":
            found.add(diagnostics.full(pipeline, part, rows, setting))
        return found, time.perf_counter() - start

    def _noise(self, cell: Cell) -> Attack | None:
        """The noise control, where it is installed and knows the norm."""
        try:
            entry = self.registry.find("attack", "noise")
        except UnknownName:
            return None
        known = cell.threat.norm in getattr(entry.spec, "norms", ())
        return create(self.registry, "attack", PartRef(entry.qualified)) if known else None

    # --- what is said of it ---

    def _summarise(
        self, cell: Cell, system: Pipeline, outcome: Outcome, seconds: float, controls: diagnostics.Controls,
        checking: float,
    ) -> Record:  # fmt: skip
        """The figures of every metric, over all clients and for each."""
        metrics, intervals = flatten(self._figures(outcome))
        per_client = {site: flatten(self._figures(outcome.at(site)))[0] for site in sorted(set(outcome.sites))}
        ranked = [
            (figures["robust_accuracy"] or 0.0, site)
            for site, figures in per_client.items()
            if "robust_accuracy" in figures
        ]
        gradients, queries = outcome.gradients.double(), outcome.queries.double()
        level = self.config.diagnostics
        return self.record(
            cell,
            system,
            status="ok",
            clients=sorted(set(outcome.sites)),
            n=len(outcome.labels),
            metrics=metrics,
            intervals=intervals,
            per_client=per_client,
            between_clients=fairness.between(per_client),
            worst_client=min(ranked)[1] if ranked else None,
            seconds=seconds,
            spent={
                "gradients_mean": float(gradients.mean()),
                "gradients_max": float(gradients.max()),
                "queries_mean": float(queries.mean()),
                "queries_max": float(queries.max()),
            },
            rungs=describe.rungs(cell, outcome),
            diagnostics={} if level == "off" else diagnostics.report(level, outcome, metrics, controls, checking),
            peak_memory_mib=peak_memory(self.device),
        )

    def _figures(self, outcome: Outcome) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for metric in self._metrics:
            figures |= metric.compute(outcome)
        return figures

    def record(self, cell: Cell, pipeline: Pipeline | None = None, **fields: Any) -> Record:
        """A record with everything that is known before measuring; of a measured cell, one of its systems too."""
        deployment, surrogate = self.deployment(cell), self.surrogate(cell)
        card = deployment.dataset.card()
        return Record(
            cell_id=_id(cell, deployment, surrogate),
            role=cell.role,
            dataset=describe.dataset(self.registry, cell, card),
            defense=describe.defense(cell, deployment, pipeline),
            attack=describe.attack(self.registry, cell, len(card.classes), deployment, self.config.precision),
            threat=asdict(cell.threat),
            budget=asdict(cell.budget),
            surrogate=describe.surrogate(surrogate) if surrogate else None,
            eot=max((describe.draws(step.access, step.eot, deployment) for step in self.steps(cell)), default=1),
            draws=cell.draws,
            seed=cell.seed,
            limit=cell.limit,
            unseen=[client for client in cell.clients if client in cell.trained.unseen],
            provenance=provenance(self.device) | ({} if self.speed.exact else {"speed": asdict(self.speed)}),
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            **fields,
        )


def _id(cell: Cell, deployment: Deployment, surrogate: Deployment | None) -> str:
    borrowed = surrogate.artifact.digest if surrogate else ""
    return cell.id(deployment.dataset.card().digest, deployment.artifact.digest, borrowed)


def _identity(deployment: Deployment, client: str) -> str:
    """All that a client's deployed system depends on."""
    gate = deployment.pipeline(client).gate
    return key_of([
        deployment.artifact.digest, deployment.resolved.describe(), deployment.resolved.recipe.strength,
        deployment.dataset.card().digest, client, client in deployment.unseen, gate and asdict(gate),
    ])  # fmt: skip
