"""Plan the cells, check and prepare them, run them on an executor. A failed cell stops no other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pydantic
import torch

from robustbench_med.datasets.client_names import unknown_client
from robustbench_med.defenses.building import build_for
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.hub import local
from robustbench_med.defenses.insider import no_insider
from robustbench_med.defenses.resolved import ResolvedDefense
from robustbench_med.defenses.tasks import check_parts
from robustbench_med.errors import (
    DataError,
    ModelNote,
    Note,
    UnknownName,
    UsageError,
    WeightsError,
    described,
    first_fault,
)
from robustbench_med.files.atomic import check_writable
from robustbench_med.grid.cell import Cell, Skip, cell_of
from robustbench_med.grid.config import RunConfig
from robustbench_med.grid.plan import plan
from robustbench_med.grid.titles import Titles
from robustbench_med.interfaces.dataset import COLOUR_LOST, SPLIT_NOT_USED, SPLITS, DataCard
from robustbench_med.interfaces.training import Model
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Progress, Silent
from robustbench_med.records.record import Record, dumped
from robustbench_med.runner.evaluator import Evaluator
from robustbench_med.runner.executors import Submits, Warms, find_executor
from robustbench_med.runner.messages import Job
from robustbench_med.runner.run_loop import RunLoop
from robustbench_med.training.loader import Loader

#: What notes of a data card mean for a model that was trained elsewhere.
_MATTERS = {
    SPLIT_NOT_USED: "a model that was trained on it has seen some of the images it is tested on",
    COLOUR_LOST: "a model that was trained in colour gets other images than it knows",
}


class Runner:
    """Runs one configuration.

    Args:
        config: what to run.
        registry: where the components come from.
        progress: opens progress bars.

    Raises:
        UsageError: the device, the batch size, the executor, or the weights that are named cannot be had.
    """

    def __init__(self, config: RunConfig, registry: Registry, progress: Progress | None = None) -> None:
        if config.weights is not None:  # before cells go to other processes or machines, so that all use one commit
            config = replace(config, weights=local(config.weights))
        self.config = config
        self.registry = registry
        self.progress = progress or Silent()
        self.evaluator = Evaluator(config, registry, self.progress)
        self.executor = find_executor(config, self.evaluator)
        self._sites: dict[str, tuple[str, ...]] = {}
        self._tried: set[str] = set()
        self._fitting: set[str] = set()

    @property
    def device(self) -> torch.device:
        """Where cells run."""
        return self.evaluator.device

    @property
    def loader(self) -> Loader:
        """Data sets and trained defenses; runners may share one."""
        return self.evaluator.loader

    @loader.setter
    def loader(self, loader: Loader) -> None:
        self.evaluator.loader = loader

    def run(self) -> Iterator[Record]:
        """Yield a record per cell; each is on disk before it is yielded.

        A cell that has a record already is not run again unless the option ``again`` is set, and one that was
        interrupted resumes after its last chunk. The run waits for cells that another run on the same folder measures.

        Raises:
            UsageError: anything the user can fix, before the first cell runs and before anything is written.
            StoreError: the folder can no longer be written to; what was complete before is kept.
        """
        cells = list(plan(self.config, self.registry))
        check_writable(self.config.out)
        for cell in cells:
            self.check(cell_of(cell))
        if isinstance(self.executor, Submits):
            for said in self.executor.ahead():
                warnings.warn(said, Note, stacklevel=2)
            self.loader.train = False  # what the tasks have not trained is not trained on a login node
        with self._warmed(sum(not isinstance(cell, Skip) for cell in cells)):
            cells = [self.settled(cell) for cell in cells]
            jobs = [self.prepare(cell) for cell in cells]
            with self.progress.grid(len(jobs)) as board:
                titles = Titles([cell_of(cell) for cell in cells])
                yield from RunLoop(self.config, self.evaluator, board, titles).run(jobs, self.executor)

    @contextmanager
    def _warmed(self, cells: int) -> Iterator[None]:
        """Within this block the workers of so many cells start, if the executor has any.

        They do so while the cells are prepared, unless cells may be done already, or parts are trained first, which
        may take longer and with an engine that starts Ray itself.
        """
        executor, early = self.executor, not (self.loader.train or (self.config.out / "records.jsonl").exists())
        if not isinstance(executor, Warms):
            yield
            return
        try:
            if early:
                executor.warm(cells * self.config.shards)
            yield
        finally:
            executor.stop()

    def check(self, cell: Cell) -> None:
        """Raise `UsageError` for whatever is wrong with the request and can be found before anything is trained."""
        dataset = self.loader.dataset(cell.trained, cell.threat.finding)
        card = dataset.card()
        # Once for all cells that differ in the attack alone: the parts of the defense are built for it.
        if (task := repr((cell.trained, cell.threat.goal, cell.threat.finding))) not in self._fitting:
            check_task(cell, self.loader.dataset(cell.trained).card(), card, self.loader.resolved(cell.trained))
            self._fitting.add(task)
        if self.config.certify and card.task == "multi-label":
            raise DataError(f"--certify: data set {card.name!r} asks about several findings; name one: --finding")
        self._try_model(cell, self.loader.dataset(cell.trained).card())
        cell.threat.check_eps(card.channels * card.size * card.size)
        trains = self.loader.train and self.evaluator.explicit(cell) is None
        with _errors_left_to_the_cell():
            for name in SPLITS if trains else ("test",):
                self._sites_of(cell, name)  # a partition may have more clients than a split has patients
        if trains and cell.clients:
            served = (*self._sites_of(cell, "train"), *cell.trained.unseen)
            for client in cell.clients:
                if client not in served:
                    raise unknown_client(client, card.name, served)

    def _try_model(self, cell: Cell, card: DataCard) -> None:
        """Build a model that was named, before anything else is done with it, and say what it is given."""
        key = repr((cell.trained.model, card.digest))
        if cell.trained.model is None or key in self._tried:
            return
        self._tried.add(key)
        model = self.loader.resolved(cell.trained).model
        with torch.random.fork_rng(devices=[]):
            classifier = build_for(model, card)
        if classifier.notes:
            warnings.warn("; ".join([*classifier.notes, _order(model, card)]), ModelNote, stacklevel=2)
        for note in () if self.loader.train else card.notes:
            for mark, meaning in _MATTERS.items():
                if mark in note:
                    warnings.warn(f"{card.name}: {note}; {meaning}", ModelNote, stacklevel=2)

    def _sites_of(self, cell: Cell, split: str) -> tuple[str, ...]:
        trained = cell.trained
        key = repr((trained.dataset, trained.partition, trained.unseen, split))
        if key not in self._sites:
            self._sites[key] = tuple(sorted(set(self.loader.dataset(trained).sites_of(split))))
        return self._sites[key]

    def settled(self, cell: Cell | Skip) -> Cell | Skip:
        """The cell without the rungs that its trained weights do not admit: `transfer`, `insider`.

        Raises:
            UsageError: `transfer` was requested by name, and the surrogate has no weights.
        """
        if not isinstance(cell, Skip) and cell.inside and (reason := no_insider(self.deployment(cell))):
            cell = cell.without("insider", reason)
        return cell if isinstance(cell, Skip) or cell.surrogate is None else self._with_surrogate(cell)

    def _with_surrogate(self, cell: Cell) -> Cell | Skip:
        """The cell without `transfer` where there is no surrogate, or none but the defense itself."""
        try:
            surrogate = self.evaluator.surrogate(cell)
        except (UnknownName, WeightsError) as error:
            if cell.threat.access != "ladder":
                raise
            return cell.without("transfer", str(error))
        assert cell.surrogate is not None
        if surrogate is not None and surrogate.artifact.digest == self.deployment(cell).artifact.digest:
            return cell.without(
                "transfer",
                f"the surrogate {cell.surrogate.defense.name!r} is the defense itself; name another: --surrogate",
            )
        return cell

    def prepare(self, cell: Cell | Skip) -> Job | Skip:
        """Train what is missing and fix each client's gate, since errors there are the user's to fix.

        Raises:
            UsageError: weights, clients or gates are wrong.
        """
        inner = cell_of(cell)
        deployment = self.deployment(inner)
        with _errors_left_to_the_cell():
            for client in inner.clients or deployment.artifact.clients:
                deployment.gate(client)
        self._check_recordable(inner)
        return cell if isinstance(cell, Skip) else self.evaluator.job(cell)

    def _check_recordable(self, cell: Cell) -> None:
        """Raise `UsageError` where no record could be written, as of a data set with line ends in its name."""
        try:
            dumped(self.evaluator.record(cell, status="skipped"))
        except pydantic.ValidationError as error:
            raise UsageError(f"{cell.short_title}: its record cannot be written: {first_fault(error)}") from None
        except ValueError as error:  # such as an infinite parameter
            raise UsageError(f"{cell.short_title}: its record cannot be written: {described(error)}") from None

    def deployment(self, cell: Cell) -> Deployment:
        """The trained defense."""
        return self.evaluator.deployment(cell)


def _order(model: Model, card: DataCard) -> str:
    """The classes of a model in order, and which order another library would have given them."""
    whose = "classes=" if model.classes else f"of {card.name!r}; another order: classes=[...]"
    other = sorted(card.classes)
    if not model.classes and other != list(card.classes):
        whose += f", such as {', '.join(other)} of torchvision's ImageFolder"
    return f"its classes in order: {', '.join(model.classes or card.classes)} ({whose})"


@contextmanager
def _errors_left_to_the_cell() -> Iterator[None]:
    """Ignore all but `UsageError`: a part that raises otherwise raises again in its cell, where it is recorded."""
    try:
        yield
    except (UsageError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:  # noqa: BLE001
        pass


def check_task(cell: Cell, card: DataCard, asked: DataCard, resolved: ResolvedDefense) -> None:
    """Raise `UsageError` for a goal or a part that does not fit the task.

    Args:
        cell: the cell.
        card: of the data set.
        asked: of the question about it; where it is about one finding, a card of two classes.
        resolved: the defense.
    """
    goal = cell.threat.goal
    if goal in ("distant", "farthest"):
        if card.task != "ordinal" or len(card.classes) < 3:
            raise DataError(f"data set {card.name!r} has no scale of three grades or more, which --goal {goal} needs")
    elif goal != "untargeted" and asked.lesion_class is None:
        hint = "; name a finding: --finding" if card.task == "multi-label" else ""
        raise DataError(f"data set {card.name!r} names no lesion class, which --goal {goal} needs{hint}")
    check_parts(card, resolved, cell.threat.finding)
