"""Cells -> outcomes -> records. A cell that fails becomes a failed record; the rest goes on."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from robustbench_med import describe, diagnostics, fairness, samples
from robustbench_med.batching import chunk_size, find_device
from robustbench_med.components import create
from robustbench_med.config import RunConfig
from robustbench_med.data import SPLITS
from robustbench_med.deployment import Deployment, unknown_client
from robustbench_med.errors import DataError, NotDefined, UnknownName, UsageError, WeightsError
from robustbench_med.fast import accelerated
from robustbench_med.interfaces import Attack, Dataset
from robustbench_med.loading import Loader
from robustbench_med.measure import Setting, Step, measure
from robustbench_med.outcome import Outcome
from robustbench_med.pick import pick
from robustbench_med.plan import Cell, Skip, label, needs, plan
from robustbench_med.progress import Progress, Silent
from robustbench_med.provenance import peak_memory, provenance
from robustbench_med.records import Record, append, flatten
from robustbench_med.references import PartRef
from robustbench_med.registry import Registry


class Runner:
    """Runs one configuration.

    Args:
        config: what to run.
        registry: where the components come from.
        progress: opens progress bars.
    """

    def __init__(self, config: RunConfig, registry: Registry, progress: Progress | None = None) -> None:
        self.config = config
        self.registry = registry
        self.progress = progress or Silent()
        self.device = find_device(config.device)
        chunk_size(config.batch_size, self.device)  # a bad batch size is said before anything runs
        self.loader = Loader(registry, self.device, config.data_root, self.progress, config.train)
        self._metrics = [create(registry, "metric", PartRef(entry.qualified)) for entry in registry.entries("metric")]

    def run(self) -> Iterator[Record]:
        """Yield a record per cell; each is on disk before it is yielded.

        Raises:
            UsageError: anything the user can mend, before the first cell runs and before anything is written.
        """
        cells = list(plan(self.config, self.registry))
        for cell in cells:
            self.check(cell.cell if isinstance(cell, Skip) else cell)
        cells = [self.settled(cell) for cell in cells]
        for cell in cells:
            self.prepare(cell.cell if isinstance(cell, Skip) else cell)
        for cell in cells:
            record = self.skipped(cell) if isinstance(cell, Skip) else self.one(cell)
            append(self.config.out / "records.jsonl", record)
            yield record

    def check(self, cell: Cell) -> None:
        """What is wrong with the request and can be said before anything is trained."""
        dataset = self.loader.dataset(cell.trained)
        card = dataset.card()
        if cell.threat.goal != "untargeted" and card.lesion_class is None:
            raise DataError(f"data set {card.name!r} names no lesion class, which --goal {cell.threat.goal} needs")
        trains = self.loader.train and self._explicit(cell) is None
        with _left_to_the_cell():
            for name in SPLITS if trains else ("test",):
                self._sites(dataset, name)  # a partition may have more clients than a split has patients
        if trains and cell.clients:
            served = (*self._sites(dataset, "train"), *cell.trained.unseen)
            for client in cell.clients:
                if client not in served:
                    raise unknown_client(client, dataset, served)

    @cache  # noqa: B019 (a runner lives as long as its run)
    def _sites(self, dataset: Dataset, split: str) -> tuple[str, ...]:
        return tuple(sorted(set(dataset.split(split).sites)))

    def settled(self, cell: Cell | Skip) -> Cell | Skip:
        """The cell less the rungs for which a surrogate is wanted and none is at hand.

        Raises:
            UsageError: `transfer` was asked for by name, and the surrogate has no weights.
        """
        if isinstance(cell, Skip) or cell.surrogate is None:
            return cell
        try:
            surrogate = self.surrogate(cell)
        except (UnknownName, WeightsError) as error:
            if cell.threat.access != "ladder":
                raise
            return cell.without("transfer", str(error))
        if surrogate is not None and surrogate.artifact.digest == self.deployment(cell).artifact.digest:
            return cell.without(
                "transfer",
                f"the surrogate {cell.surrogate.defense.name!r} is the defense itself; name another: --surrogate",
            )
        return cell

    def prepare(self, cell: Cell) -> None:
        """Everything else that can fail for reasons the user can mend: weights, clients, gates. Trains what is missing.

        Raises:
            UsageError: what is to be mended.
        """
        deployment = self.deployment(cell)
        with _left_to_the_cell():
            for client in cell.clients or deployment.artifact.clients:
                deployment.pipeline(client)

    def deployment(self, cell: Cell) -> Deployment:
        """The trained defense."""
        return self.loader.deployment(cell.trained, self._explicit(cell))

    def _explicit(self, cell: Cell) -> Path | None:
        """The weights that were named; they are not the baseline's."""
        baseline = self.config.baseline
        return None if baseline and cell.defense.name == baseline else self.config.weights

    def surrogate(self, cell: Cell) -> Deployment | None:
        """The defense whose classifier `transfer` attacks."""
        return None if cell.surrogate is None else self.loader.deployment(cell.surrogate)

    def one(self, cell: Cell) -> Record:
        """Run one cell."""
        deployment = self.deployment(cell)
        try:
            return self._measured(cell, deployment)
        except NotDefined as error:
            return self.record(cell, status="skipped", reason=str(error))
        except Exception as error:  # noqa: BLE001
            # A failure is data: whatever a plugin raises becomes this cell's record, and the other cells still run.
            reason = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
            return self.record(cell, status="failed", reason=reason[:500])

    def skipped(self, skip: Skip) -> Record:
        """The record of a cell that cannot be measured."""
        return self.record(skip.cell, status="skipped", reason=skip.reason)

    def _measured(self, cell: Cell, deployment: Deployment) -> Record:
        dataset = deployment.dataset
        card = dataset.card()
        test = dataset.split("test")
        index = pick(test, cell.clients or deployment.artifact.clients, cell.limit, cell.threat.goal, card.lesion_class)
        if not len(index):
            raise DataError(f"data set {card.name!r} has no test images of clients {', '.join(cell.clients)}")
        pipelines = {client: deployment.pipeline(client) for client in sorted({test.sites[i] for i in index.tolist()})}
        surrogate = self.surrogate(cell)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        level = self.config.diagnostics
        parts: list[Outcome] = []
        controls = diagnostics.Controls()
        seconds = checking = 0.0
        huge = diagnostics.huge_count(len(index))
        with self.progress.task(title(cell), len(index)) as bar:
            for client, pipeline in pipelines.items():
                rows = index[torch.tensor([test.sites[i] == client for i in index.tolist()])]
                setting = Setting(
                    threat=cell.threat, steps=self.steps(cell), num_classes=len(card.classes),
                    lesion_class=card.lesion_class, device=self.device, seed=cell.seed, draws=cell.draws,
                    batch=chunk_size(self.config.batch_size, self.device), budget=cell.budget,
                    surrogate=accelerated(surrogate.pipeline(client).classifier) if surrogate else None,
                    stand_in=cell.stand_in, watch=level != "off", advance=bar.advance,
                )  # fmt: skip
                part, start = test.select(rows), time.perf_counter()
                parts.append(measure(pipeline, part, rows, setting))
                seconds += time.perf_counter() - start
                if level != "off":
                    start = time.perf_counter()
                    controls.add(diagnostics.cheap(pipeline, part, rows, setting, self._noise(cell), huge))
                    huge -= controls.huge
                    if level == "full":
                        controls.add(diagnostics.full(pipeline, part, rows, setting))
                    checking += time.perf_counter() - start
        outcome = Outcome.join(parts)
        record = self.summarise(cell, outcome, seconds + checking, controls, checking)
        samples.write(outcome, self.config.out / "samples" / f"{record.cell_id}.parquet")
        return record

    def steps(self, cell: Cell) -> tuple[Step, ...]:
        """The attacks of the cell's rungs, built."""
        steps = []
        for rung in cell.rungs:
            attack: Attack = create(self.registry, "attack", rung.attack)
            eot = max(rung.eot or cell.eot, attack.eot or 1)
            gradient = needs(self.registry, rung.attack) == "gradient"
            steps.append(Step(label(rung), rung.access, attack, eot, rung.evasion or "orthogonal", gradient))
        return tuple(steps)

    def _noise(self, cell: Cell) -> Attack | None:
        """The noise control, where it is installed and knows the norm."""
        try:
            entry = self.registry.find("attack", "noise")
        except UnknownName:
            return None
        known = cell.threat.norm in getattr(entry.spec, "norms", ())
        return create(self.registry, "attack", PartRef(entry.qualified)) if known else None

    def summarise(
        self, cell: Cell, outcome: Outcome, seconds: float, controls: diagnostics.Controls, checking: float
    ) -> Record:
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

    def record(self, cell: Cell, **fields: Any) -> Record:
        """A record with everything that is known before measuring."""
        deployment = self.deployment(cell)
        surrogate = self.surrogate(cell) if any(rung.access == "transfer" for rung in cell.rungs) else None
        card = deployment.dataset.card()
        return Record(
            cell_id=cell.id(card.digest, deployment.artifact.digest, surrogate.artifact.digest if surrogate else ""),
            role=cell.role,
            dataset=describe.dataset(self.registry, cell, card),
            defense=describe.defense(cell, deployment),
            attack=describe.attack(self.registry, cell, len(card.classes), deployment),
            threat=asdict(cell.threat),
            budget=asdict(cell.budget),
            surrogate=describe.surrogate(surrogate) if surrogate else None,
            eot=max((describe.draws(step.access, step.eot, deployment) for step in self.steps(cell)), default=1),
            draws=cell.draws,
            seed=cell.seed,
            limit=cell.limit,
            unseen=[client for client in cell.clients if client in cell.trained.unseen],
            provenance=provenance(self.device),
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            **fields,
        )


def title(cell: Cell) -> str:
    """What a progress bar says."""
    return f"{cell.defense.name} / {cell.attack.name} / {cell.threat.access}"


@contextmanager
def _left_to_the_cell() -> Iterator[None]:
    """A part that breaks is no wrong request: it breaks again inside its cell and is recorded there."""
    try:
        yield
    except UsageError:
        raise
    except Exception:  # noqa: BLE001
        pass
