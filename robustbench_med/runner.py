"""Cells -> outcomes -> records. A cell that fails becomes a failed record; the rest goes on."""

from __future__ import annotations

import datetime as dt
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from robustbench_med import samples
from robustbench_med.batching import chunk_size, find_device
from robustbench_med.blueprint import draw, key_of
from robustbench_med.components import PartRef, all_params, create
from robustbench_med.config import RunConfig
from robustbench_med.data import Split
from robustbench_med.deployment import Deployment, deployment_facts, find_artifact
from robustbench_med.errors import DataError, UsageError
from robustbench_med.interfaces import Dataset
from robustbench_med.measure import join, measure
from robustbench_med.opening import open_dataset
from robustbench_med.outcome import Outcome
from robustbench_med.plan import Cell, Skip, plan
from robustbench_med.progress import Progress, Silent
from robustbench_med.provenance import provenance
from robustbench_med.records import Record, append, flatten
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
        self._datasets: dict[str, Dataset] = {}
        self._deployments: dict[str, Deployment] = {}
        self._metrics = [create(registry, "metric", PartRef(entry.qualified)) for entry in registry.entries("metric")]

    def run(self) -> Iterator[Record]:
        """Yield a record per cell; each is on disk before it is yielded.

        Raises:
            UsageError: anything the user can mend, before the first cell runs and before anything is written.
        """
        cells = list(plan(self.config, self.registry))
        for cell in cells:
            self.prepare(cell.cell if isinstance(cell, Skip) else cell)
        for cell in cells:
            record = self.skipped(cell) if isinstance(cell, Skip) else self.one(cell)
            append(self.config.out / "records.jsonl", record)
            yield record

    def prepare(self, cell: Cell) -> None:
        """Everything that can fail for reasons the user can mend: data, weights, clients."""
        deployment = self.deployment(cell)
        try:
            self.dataset(cell.dataset).split("test")
            for client in cell.clients or deployment.artifact.clients:
                deployment.pipeline(client)
        except UsageError:
            raise
        except Exception:  # noqa: BLE001
            pass  # a part that breaks is no wrong request: it breaks again inside its cell and is recorded there

    def dataset(self, ref: PartRef) -> Dataset:
        """The data set, opened once."""
        key = key_of([ref.name, ref.params])
        if key not in self._datasets:
            self._datasets[key] = open_dataset(self.registry, ref, self.config.data_root, self.progress)
        return self._datasets[key]

    def deployment(self, cell: Cell) -> Deployment:
        """The trained defense, loaded once."""
        key = key_of([asdict(ref) if ref else None for ref in (cell.dataset, cell.defense, cell.model, cell.strategy)])
        if key not in self._deployments:
            blueprint = draw(self.registry, cell.defense, cell.model, cell.strategy)
            dataset = self.dataset(cell.dataset)
            baseline = self.config.baseline
            explicit = None if baseline and cell.defense.name == baseline else self.config.weights
            artifact = find_artifact(blueprint, dataset.card(), explicit)
            self._deployments[key] = Deployment(blueprint, artifact, dataset, self.device)
        return self._deployments[key]

    def one(self, cell: Cell) -> Record:
        """Run one cell."""
        deployment = self.deployment(cell)
        try:
            return self._measured(cell, deployment)
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
        attack = create(self.registry, "attack", cell.attack)
        test = dataset.split("test")
        index = pick(test, cell.clients or deployment.artifact.clients, cell.limit)
        if not len(index):
            raise DataError(f"data set {card.name!r} has no test images of clients {', '.join(cell.clients)}")
        pipelines = {client: deployment.pipeline(client) for client in sorted({test.sites[i] for i in index.tolist()})}
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        parts: list[Outcome] = []
        title = f"{cell.defense.name} / {cell.attack.name} / {cell.threat.access}"
        with self.progress.task(title, len(index)) as bar:
            for client, pipeline in pipelines.items():
                rows = index[torch.tensor([test.sites[i] == client for i in index.tolist()])]
                draws = cell.eot if cell.threat.access != "oblivious" and pipeline.stochastic else 1
                parts.append(
                    measure(
                        pipeline, attack, test.select(rows), rows, cell.threat,
                        num_classes=len(card.classes), lesion_class=card.lesion_class, device=self.device,
                        seed=cell.seed, eot=cell.eot, draws=cell.draws, advance=bar.advance,
                        batch=chunk_size(self.config.batch_size, self.device, draws),
                    )
                )  # fmt: skip
        seconds = time.perf_counter() - start
        outcome = join(parts)
        record = self.summarise(cell, outcome, seconds)
        samples.write(outcome, self.config.out / "samples" / f"{record.cell_id}.parquet")
        return record

    def summarise(self, cell: Cell, outcome: Outcome, seconds: float) -> Record:
        """The figures of every metric, over all clients and for each."""
        metrics, intervals = flatten(self._figures(outcome))
        per_client = {site: flatten(self._figures(outcome.at(site)))[0] for site in sorted(set(outcome.sites))}
        ranked = [
            (figures["robust_accuracy"] or 0.0, site)
            for site, figures in per_client.items()
            if "robust_accuracy" in figures
        ]
        gradients, queries = outcome.gradients.double(), outcome.queries.double()
        return self.record(
            cell,
            status="ok",
            clients=sorted(set(outcome.sites)),
            n=len(outcome.labels),
            metrics=metrics,
            intervals=intervals,
            per_client=per_client,
            worst_client=min(ranked)[1] if ranked else None,
            seconds=seconds,
            spent={
                "gradients_mean": float(gradients.mean()),
                "gradients_max": float(gradients.max()),
                "queries_mean": float(queries.mean()),
                "queries_max": float(queries.max()),
            },
            peak_memory_mib=peak_memory(self.device),
        )

    def _figures(self, outcome: Outcome) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for metric in self._metrics:
            figures |= metric.compute(outcome)
        return figures

    def record(self, cell: Cell, **fields: Any) -> Record:
        """A record with everything that is known before measuring."""
        dataset_entry = self.registry.find("dataset", cell.dataset.name)
        attack_entry = self.registry.find("attack", cell.attack.name)
        card = self.dataset(cell.dataset).card()
        deployment = self.deployment(cell)
        blueprint = deployment.blueprint
        attack = create(self.registry, "attack", cell.attack)
        return Record(
            cell_id=cell.id(card.digest, deployment.artifact.digest),
            role=cell.role,
            dataset={
                "name": card.name,
                "distribution": f"{dataset_entry.distribution} {dataset_entry.version}",
                "params_passed": dict(cell.dataset.params),
                "digest": card.digest,
                "synthetic": card.synthetic,
                "licence": card.licence,
                "classes": list(card.classes),
                "notes": list(card.notes),
            },
            defense={
                "name": cell.defense.name,
                "distribution": f"{blueprint.entry.distribution} {blueprint.entry.version}",
                "params": all_params(blueprint.defense.params),
                "params_passed": dict(cell.defense.params),
                "parts": blueprint.describe(),
                "weights": deployment_facts(deployment),
            },
            attack={
                "name": cell.attack.name,
                "distribution": f"{attack_entry.distribution} {attack_entry.version}",
                "params": all_params(attack.params),
                "params_passed": dict(cell.attack.params),
                "revision": attack_entry.spec.revision,
            },
            threat=asdict(cell.threat),
            eot=cell.eot,
            draws=cell.draws,
            seed=cell.seed,
            limit=cell.limit,
            provenance=provenance(self.device),
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            **fields,
        )


def pick(test: Split, clients: tuple[str, ...], limit: int | None) -> torch.Tensor:
    """Rows of the test split to evaluate, int64: the first of every client in turn, until ``limit``.

    Taking clients in turn keeps every client in a small subset. The order within a client is shuffled, the same way
    every time, because neighbouring rows are often slices of one patient.
    """
    turns: dict[str, int] = {}
    keyed = []
    shuffled = torch.randperm(len(test), generator=torch.Generator().manual_seed(0)).tolist()
    for row in shuffled:
        site = test.sites[row]
        if site in clients:
            keyed.append((turns.setdefault(site, 0), row))
            turns[site] += 1
    chosen = [row for _, row in sorted(keyed)][:limit]
    return torch.tensor(sorted(chosen), dtype=torch.int64)


def peak_memory(device: torch.device) -> float:
    """MiB: of the GPU since the cell began, else the process's largest resident size so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
