"""What a run would do: which cells are done, which will run, and what they will cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from robustbench_med.attacks.accelerate import accelerated
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.insider import MOST, MeanLogits
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.resolved import key_of
from robustbench_med.defenses.weights import search
from robustbench_med.errors import RbmedError, UnknownName, WeightsError
from robustbench_med.grid.cell import Cell, Skip, cell_labels, cell_of
from robustbench_med.grid.config import RunConfig
from robustbench_med.grid.filters import read as read_pattern
from robustbench_med.grid.plan import plan
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.tasks import encode
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Progress, Silent
from robustbench_med.records.record import latest, read
from robustbench_med.runner.cost import Cost, CostInput, Costs, untrained
from robustbench_med.runner.runner import Runner
from robustbench_med.runtime.batching import chunk_size
from robustbench_med.training.estimate import UntrainedPart, missing
from robustbench_med.training.untrained import ready_seed

#: ``train``: it will run once its weights are trained; ``refused``: it has none and none are to be trained.
State = Literal["done", "run", "train", "skip", "refused"]


@dataclass(frozen=True)
class Item:
    """A cell and what a run would do with it.

    Attributes:
        cell: the cell.
        state: see `State`.
        reason: why it is skipped or refused, or why its cost is unknown.
        cell_id: None where it depends on weights that do not exist.
        images: that it would evaluate; None for a cell that is skipped.
        cost: None where it was not requested, is unknown, or nothing is left to do.
    """

    cell: Cell
    state: State
    reason: str = ""
    cell_id: str | None = None
    images: int | None = None
    cost: Cost | None = None


class Preview:
    """Previews the run of a configuration; trains nothing, and writes nothing to its folder.

    Args:
        config: what to run.
        registry: where the components come from.
        progress: opens progress bars.
    """

    def __init__(self, config: RunConfig, registry: Registry, progress: Progress | None = None) -> None:
        self.config, self.registry, self.progress = config, registry, progress or Silent()
        # The runner must not train: cells without weights are listed.
        self.runner = Runner(replace(config, train=False), registry, progress)
        self.loader = self.runner.loader
        batch = chunk_size(config.batch_size, self.runner.device)
        self._systems: dict[str, Pipeline] = {}
        self._lacks: dict[str, bool] = {}
        self._counted: dict[str, int] = {}
        stamp = self.runner.evaluator.stamp
        self.costs = Costs(self.runner.device, batch, config.diagnostics, config.certification, stamp)

    def items(self, estimate: bool = True) -> list[Item]:
        """Every cell in the order in which it would run; ``estimate``: with the cost of those to be run.

        Raises:
            UsageError: the run would refuse to start, for another reason than weights that are missing.
        """
        planned = list(plan(self.config, self.registry, self.loader.dataset))
        done = self._done()
        found = []
        with self.progress.task("looking at cells", len(planned)) as bar:
            for each in planned:
                item = self._skipped(each) if isinstance(each, Skip) else self._look(each, done)
                found.append(self._with_cost(item) if estimate and item.state in ("run", "train") else item)
                bar.advance()
        self.costs.save()
        return found

    def trainings(self, items: list[Item]) -> list[UntrainedPart]:
        """What has to be trained first, each part once."""
        return missing(
            self.loader, [ref for item in items if item.state == "train" for ref in self._lacking(item.cell)]
        )

    def idle(self) -> list[str]:
        """Patterns of ``include`` and ``exclude`` that no cell fits, as they were written: probably mistyped."""
        patterns = [read_pattern(written) for written in (*self.config.include, *self.config.exclude)]
        if not patterns:
            return []
        whole = replace(self.config, include=(), exclude=())
        names = [cell_labels(cell_of(each)) for each in plan(whole, self.registry, self.loader.dataset)]
        return [each.source for each in patterns if not any(map(each.fits, names))]

    def _done(self) -> set[str]:
        path = self.config.out / "records.jsonl"
        return {record.cell_id for record in latest(read(path)) if record.status == "ok"} if path.is_file() else set()

    def _skipped(self, skip: Skip) -> Item:
        self.runner.check(skip.cell)
        return Item(skip.cell, "skip", skip.reason)

    def _look(self, cell: Cell, done: set[str]) -> Item:
        self.runner.check(cell)
        if self.config.train and self._lacking(cell):
            return Item(cell, "train", images=self._images(cell))
        try:
            deployment, settled = self.runner.deployment(cell), self.runner.settled(cell)
        except WeightsError as error:
            if not self._lacking(cell):
                raise  # corrupt, or not those that were named
            return Item(cell, "refused", str(error), images=self._images(cell))
        if isinstance(settled, Skip):
            return Item(settled.cell, "skip", settled.reason)
        for client in cell.clients:
            deployment.known(client)
        surrogate = self.loader.deployment(settled.surrogate) if settled.surrogate and settled.transfers else None
        digest = surrogate.artifact.digest if surrogate else ""
        cell_id = settled.id(deployment.dataset.card().digest, deployment.artifact.digest, digest)
        state: State = "done" if cell_id in done else "run"
        return Item(settled, state, cell_id=cell_id, images=self._images(settled))

    def _lacking(self, cell: Cell) -> list[TrainedRef]:
        """The trained defenses that the cell needs and that have no weights; weights that were named are not checked.

        Raises:
            WeightsError: there are some, and they are corrupt.
        """
        named = self.runner.evaluator.explicit(cell) is not None
        return [ref for ref in _refs(cell)[named:] if self._lacks_weights(ref)]

    def _lacks_weights(self, ref: TrainedRef) -> bool:
        key = repr(ref)
        if key not in self._lacks:
            try:
                resolved, card = self.loader.resolved(ref), self.loader.dataset(ref).card()
                there = search(resolved, card, seed=ref.seed)[0] is not None
                self._lacks[key] = not there and ready_seed(resolved, card, ref.seed) is None
            except UnknownName:  # a surrogate that no plugin offers: its rung is left out, or the run is refused
                self._lacks[key] = False
        return self._lacks[key]

    def _rows(self, cell: Cell) -> tuple[Split, torch.Tensor]:
        dataset = self.loader.dataset(cell.trained, cell.threat.finding)
        test, card = dataset.split("test"), dataset.card()
        if card.task == "multi-label":
            test = replace(test, labels=encode(test.labels))
        clients = cell.clients or tuple(sorted(set(dataset.sites_of("train"))))
        return test, rows_to_evaluate(test, clients, cell.limit, cell.threat.goal, card.lesion_class, len(card.classes))

    def _images(self, cell: Cell) -> int:
        """How many images the cell evaluates; the same for cells that differ in the attack alone."""
        data = (cell.dataset, cell.trained.partition, cell.trained.unseen)
        key = repr((data, cell.clients, cell.limit, cell.threat.goal, cell.threat.finding))
        if key not in self._counted:
            self._counted[key] = len(self._rows(cell)[1])
        return self._counted[key]

    def _with_cost(self, item: Item) -> Item:
        """The cell with its cost; with the reason where a part or an attack cannot be tried."""
        try:
            case = self._case(item)
            cost = self.costs.of(case) if case.images else Cost(0, 0, 0.0)
        except Exception as error:  # noqa: BLE001
            # A plugin that raises here raises again in its cell, where it is recorded.
            words = str(error) if isinstance(error, RbmedError) else f"{type(error).__name__}: {error}"
            return replace(item, reason=f"cost unknown: {' '.join(words.split())}"[:200])
        return replace(item, cost=cost)

    def _case(self, item: Item) -> CostInput:
        cell = item.cell
        test, rows = self._rows(cell)
        sites = [test.sites[row] for row in rows.tolist()]
        clients = sorted(set(sites))
        surrogate = None
        if cell.transfers and cell.surrogate is not None:
            surrogate = accelerated(self._system(cell.surrogate, clients[0])[1].classifier)
        design, pipeline = self._system(cell.trained, clients[0], cell)
        card = self.loader.dataset(cell.trained, cell.threat.finding).card()
        inside = None
        if cell.inside:  # classifiers of equal design take equal time
            others = len(set(self.loader.dataset(cell.trained).sites_of("train"))) - 1
            inside = MeanLogits([accelerated(pipeline.classifier)] * max(1, min(others, MOST)))
        return CostInput(
            cell=cell,
            images=tuple(sites.count(client) for client in clients),
            sample=test.images[rows[:64]],
            pipeline=pipeline,
            design=design,
            num_classes=len(card.classes),
            task=card.task,
            surrogate=surrogate,
            insider=inside,
        )

    def _system(self, ref: TrainedRef, client: str, cell: Cell | None = None) -> tuple[str, Pipeline]:
        """A deployed system and the key of its design; other weights of the same design are not loaded."""
        resolved, card = self.loader.resolved(ref), self.loader.dataset(ref).card()
        design = key_of([resolved.describe(), repr(ref.strategy), repr(ref.options), len(card.classes), card.size])
        if design not in self._systems:
            if self._lacks_weights(ref):
                self._systems[design] = untrained(resolved, card, self.runner.device)
            else:
                deployment = self.runner.deployment(cell) if cell else self.loader.deployment(ref)
                self._systems[design] = deployment.pipeline(client)
        return design, self._systems[design]


def _refs(cell: Cell) -> list[TrainedRef]:
    """The trained defenses that the cell needs."""
    return [cell.trained, *([cell.surrogate] if cell.surrogate is not None and cell.transfers else [])]
