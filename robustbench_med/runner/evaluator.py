"""One cell -> its record: loads what it needs, attacks chunk by chunk, summarises.

It writes nothing: finished parts leave as messages, so that a cell can run in any process.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from robustbench_med.attacks import controls, huge_eps
from robustbench_med.attacks.batch_size import BatchSizes
from robustbench_med.attacks.measure import measure_chunks
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.certification.smoothing import sigma_of
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.datasets.test_split import patient_codes
from robustbench_med.defenses.deployment import Deployment, Question
from robustbench_med.defenses.insider import insider
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.defenses.resolved import key_of
from robustbench_med.errors import DataError, HarnessError, NotDefined, described
from robustbench_med.files.provenance import peak_memory, provenance
from robustbench_med.grid.cell import Cell
from robustbench_med.grid.config import RunConfig
from robustbench_med.grid.options import reference
from robustbench_med.interfaces.results import Outcome
from robustbench_med.interfaces.tasks import encode
from robustbench_med.plugins.calls import process_kept
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.tracebacks import PluginTraceback, plugin_traceback
from robustbench_med.progress import Progress, Silent
from robustbench_med.records.record import Record, dumped
from robustbench_med.records.sections.attack import AttackSection, draws
from robustbench_med.records.sections.certified import CertifiedSection
from robustbench_med.records.sections.dataset import DatasetSection
from robustbench_med.records.sections.defense import DefenseSection, SurrogateSection
from robustbench_med.runner import checkpoints
from robustbench_med.runner.checkpoints import RunningTotals, timed
from robustbench_med.runner.measured import measured
from robustbench_med.runner.messages import Checkpoint, Done, Job, Message, Started
from robustbench_med.runner.shards import ClientPart, shares
from robustbench_med.runtime.batching import chunk_size, find_device
from robustbench_med.runtime.cache import SharedResults, stamp
from robustbench_med.runtime.speed import Speed, set_float32
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
        set_float32(config.tf32)  # here, since every process of an executor makes an evaluator
        chunk_size(config.batch_size, self.device)  # raises for a bad batch size before anything runs
        self.loader = Loader(registry, self.device, config.data_root, progress or Silent(), config.train)
        self._named = {reference(ref, "defense").name for ref in config.defense}
        self.stamp = stamp(registry, self.device)
        self.speed = Speed(config.precision, config.compile, config.channels_last, config.prefetch)
        self._shared = SharedResults(self.stamp) if config.share else None
        self._batch_sizes = BatchSizes(config.batch_size, self.device)
        self._noise = controls.noise_control(registry)
        #: By cell, the plugins that broke in this run.
        self.tracebacks: dict[str, PluginTraceback] = {}
        self._metrics = [create(registry, "metric", PartRef(entry.qualified)) for entry in registry.entries("metric")]

    # --- data and weights of a cell ---

    def deployment(self, cell: Cell) -> Deployment:
        """The trained defense."""
        return self.loader.deployment(cell.trained, self.explicit(cell), self._question(cell))

    def _question(self, cell: Cell) -> Question:
        return Question(cell.threat.finding, self.config.calibrated_thresholds)

    def explicit(self, cell: Cell) -> Path | None:
        """The folder of weights that was named, if any; a baseline that is only shown next to others has its own."""
        return self.config.weights if cell.defense.name in self._named else None

    def surrogate(self, cell: Cell) -> Deployment | None:
        """The defense whose classifier `transfer` attacks; None where no rung of the cell is `transfer`."""
        asked = self._question(cell)
        return self.loader.deployment(cell.surrogate, asked=asked) if cell.transfers and cell.surrogate else None

    def job(self, cell: Cell) -> Job:
        """The cell with its id and its weights."""
        deployment, surrogate = self.deployment(cell), self.surrogate(cell)
        return Job(
            cell=cell,
            cell_id=_id(cell, deployment, surrogate),
            weights=deployment.artifact.folder,
            surrogate=surrogate.artifact.folder if surrogate else None,
        )

    # --- running a cell ---

    def run(self, job: Job) -> Iterator[Message]:
        """Run one cell; the last message is `Done`, whatever happens."""
        with closing(self._run(job)) as messages:
            while True:
                try:
                    with process_kept():
                        message = next(messages, None)
                except NotDefined as error:
                    message = Done(status="skipped", reason=str(error))
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001
                    # A failure is data: whatever a plugin raises, `SystemExit` and `GeneratorExit` included, becomes
                    # this cell's record, and the other cells still run, with networks that it has not touched.
                    self.loader.forget()
                    trace = plugin_traceback(error, self.registry)
                    message = Done(status="failed", reason=described(error)[:500], traceback=trace)
                if message is None:
                    return
                yield message

    def _run(self, job: Job) -> Generator[Message, None, None]:
        self.loader.pin(job.cell.trained, job.weights)
        if job.cell.surrogate is not None and job.surrogate is not None:
            self.loader.pin(job.cell.surrogate, job.surrogate)
        deployment, surrogate = self.deployment(job.cell), self.surrogate(job.cell)
        if _id(job.cell, deployment, surrogate) != job.cell_id:
            raise HarnessError("data or weights here differ from those with which the run was planned")
        parts, images = self._client_parts(job, deployment)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        totals = RunningTotals([(part.number, *chunk) for part in parts for chunk in part.finished])
        yield Started(sum(images), totals.images, totals.robust_accuracy)
        huge = huge_eps.numbers(images, job.cell.rungs)
        for part in parts:
            settings = self._settings(job, part, deployment, surrogate)
            yield from self._attack(job, part, settings, totals)
            if part.share.controls:
                yield from self._check(job, part, settings, totals, huge[part.number])
        if job.shard is not None:
            yield Done()
            return
        chunk = totals.joined()
        test, outcome = deployment.dataset.split("test"), chunk.outcome
        codes = patient_codes(test, outcome.patients) if deployment.dataset.card().patients_known else ()
        lesions = {name: values[outcome.index] for name, values in test.lesions.items()}
        chunk = replace(chunk, outcome=replace(outcome, codes=codes, lesions=lesions))
        told = deployment.gate_notes(part.client for part in parts)
        certified = self._certified(chunk.outcome, parts[0].pipeline)
        if certified is not None and (lines := certified.warnings()):
            told |= {"certificate-contradicted": lines}
        fields = measured(job.cell, chunk, totals, self._metrics, self.config.diagnostics, told)
        fields["certified"] = certified
        record = self.record(job.cell, parts[0].pipeline, peak_memory_mib=peak_memory(self.device), **fields)
        dumped(record)  # what cannot be written fails this cell and not the run
        yield Done(record, checkpoints.encode(chunk))

    def _certified(self, outcome: Outcome, pipeline: Pipeline) -> CertifiedSection | None:
        """The certificates of all images; None where none were requested."""
        how = self.config.certification
        return None if how is None else CertifiedSection.of(outcome, how, sigma_of(pipeline))

    def _client_parts(self, job: Job, deployment: Deployment) -> tuple[list[ClientPart], list[int]]:
        """What is measured of each client, with its system and what is finished; and the images of all clients."""
        cell, test, card = job.cell, deployment.dataset.split("test"), deployment.dataset.card()
        clients = cell.clients or deployment.artifact.clients
        if card.task == "multi-label":
            test = replace(test, labels=encode(test.labels))
        index = rows_to_evaluate(test, clients, cell.limit, cell.threat.goal, card.lesion_class, len(card.classes))
        if not len(index):
            raise DataError(f"data set {card.name!r} has no test images of clients {', '.join(clients)}")
        sites = [test.sites[row] for row in index.tolist()]
        names = sorted(set(sites))
        images = [sites.count(client) for client in names]
        size = chunk_size(self.config.batch_size, self.device)
        divided = shares(images, size, job.shard, self.config.diagnostics != "off")
        parts = []
        for number, (client, share) in enumerate(zip(names, divided, strict=True)):
            if share.empty:
                continue
            rows = index[torch.tensor([site == client for site in sites])]
            finished = checkpoints.finished_chunks(job.checkpoints, number, share.start, share.stop)
            pipeline = deployment.pipeline(client)
            parts.append(ClientPart(number, client, pipeline, test.select(rows), rows, finished, share))
        return parts, images

    def _settings(
        self, job: Job, part: ClientPart, deployment: Deployment, surrogate: Deployment | None
    ) -> EvaluationSettings:
        cell, card = job.cell, deployment.dataset.card()
        settings = EvaluationSettings(
            threat=cell.threat,
            rungs=cell.rungs,
            num_classes=len(card.classes),
            lesion_class=card.lesion_class,
            device=self.device,
            seed=cell.seed,
            draws=cell.draws,
            budget=cell.budget,
            surrogate=surrogate.classifier(part.client) if surrogate else None,
            insider=insider(deployment, part.client) if cell.inside else None,
            clean=partial(deployment.training_images, part.client),
            stand_in=cell.stand_in,
            watch=self.config.diagnostics != "off",
            speed=self.speed,
            score_8bit=self.config.score_8bit,
            score_fixed_noise=self.config.score_fixed_noise,
            shared=self._shared,
            certification=self.config.certification,
            system_key=deployment.key(part.client),
            surrogate_key=surrogate.key(part.client) if surrogate else "",
            task=card.task,
            classes=() if card.task == "multi-class" else card.classes,
        )
        batch = self._batch_sizes.size(_memory_key(job), part.pipeline, part.split, part.rows, settings)
        return replace(settings, batch=batch)

    def _attack(
        self, job: Job, part: ClientPart, settings: EvaluationSettings, totals: RunningTotals
    ) -> Iterator[Message]:
        """Attack and score the images of a client that are not finished yet."""
        start = part.finished[-1][0].stop if part.finished else part.share.start
        measuring = measure_chunks(part.pipeline, part.split, part.rows, settings, start, part.share.stop)
        for place, chunk in timed(measuring):
            totals.add(part.number, place, chunk)
            self._batch_sizes.lower(_memory_key(job), place, len(part.split))
            name, images = checkpoints.chunk_name(part.number, place), place.stop - place.start
            yield Checkpoint(name, checkpoints.encode(chunk), images, totals.robust_accuracy)

    def _check(
        self, job: Job, part: ClientPart, settings: EvaluationSettings, totals: RunningTotals, huge: range
    ) -> Iterator[Message]:
        """The controls of the diagnostics for one client; ``huge``: its images that are attacked at a huge eps."""
        name = checkpoints.controls_name(part.number)
        data = job.checkpoints.get(name)
        if data is None:
            start = time.perf_counter()
            noise = self._noise.attack if self._noise and settings.threat.norm in self._noise.norms else None
            found = controls.cheap(part.pipeline, part.split, part.rows, settings, noise, huge)
            if self.config.diagnostics == "full":
                found.add(controls.full(part.pipeline, part.split, part.rows, settings))
            data = checkpoints.encode_controls(found, time.perf_counter() - start)
            yield Checkpoint(name, data, 0, totals.robust_accuracy)
        totals.add_controls(*checkpoints.decode_controls(data))

    # --- records ---

    def record(self, cell: Cell, pipeline: Pipeline | None = None, **fields: Any) -> Record:
        """A record with everything that is known before measuring; of a measured cell, one of its pipelines too."""
        deployment, surrogate = self.deployment(cell), self.surrogate(cell)
        card = deployment.dataset.card()
        classes = cell.shown_classes(len(card.classes), card.task)
        return Record(
            cell_id=_id(cell, deployment, surrogate),
            role=cell.role,
            dataset=DatasetSection.of(cell, card, self.registry.find("dataset", cell.dataset.name)),
            defense=DefenseSection.of(cell, deployment, pipeline),
            attack=AttackSection.of(cell, classes, deployment, self.config.precision, self.config.extras),
            threat=cell.threat.facts,
            budget=asdict(cell.budget),
            surrogate=SurrogateSection.of(surrogate) if surrogate else None,
            eot=max((draws(rung, deployment) for rung in cell.rungs), default=1),
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


def _memory_key(job: Job) -> str:
    """A key of what decides how much memory an image needs: the defense, and the attacks on it."""
    return key_of([job.weights, job.cell.facts, [rung.access for rung in job.cell.rungs]])
