"""Does a record hold? Its cell is run again from what the record says, and both are compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from robustbench_med.datasets.test_split import facts_of
from robustbench_med.defenses.artifact import Artifact
from robustbench_med.defenses.deployment import CALIBRATION, Deployment
from robustbench_med.defenses.hub import local
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.weights import with_digest
from robustbench_med.errors import BadConfig, DataError, UsageError, WeightsError
from robustbench_med.grid.cell import Cell, cell_of
from robustbench_med.grid.config import RunConfig, build
from robustbench_med.grid.plan import plan
from robustbench_med.interfaces.dataset import Dataset
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.samples import from_samples
from robustbench_med.leaderboard.sources.test_split import TestSplit
from robustbench_med.plugins.references import format_ref
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Progress
from robustbench_med.records import compare
from robustbench_med.records.folder import SAMPLES
from robustbench_med.records.record import Record
from robustbench_med.records.rerun import request
from robustbench_med.reproduction.agreement import close, elsewhere, other_images, unrepeatable
from robustbench_med.reproduction.audit import faults, metrics_of
from robustbench_med.reproduction.description import other_revisions, planned_id, variant
from robustbench_med.runner.runner import Runner
from robustbench_med.runtime.batching import find_device
from robustbench_med.runtime.speed import set_float32
from robustbench_med.training.loader import Loader
from robustbench_med.training.untrained import ready_seed

#: identical: the whole record but times and provenance, and every image where results of images are kept; within: other
#: hardware or libraries are named, what was requested is the same, and every share is within sampling error; digest:
#: data or weights are others than the record's; impossible: it cannot be run again here.
Verdict = Literal["identical", "within", "differs", "digest", "impossible"]


@dataclass(frozen=True)
class Finding:
    """What became of a record's verification."""

    record: Record
    verdict: Verdict
    notes: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether the record is shown to be right. Within sampling error it may be anywhere, so that is no proof."""
        return self.verdict == "identical"


class Verifier:
    """Runs cells again, and opens what they share once.

    Args:
        registry: where the components come from.
        device: where to run; by default where the record's cell ran, if that is here, else on the CPU.
        data_root: folder of the user's images.
        progress: opens progress bars.
        train: train weights that are not here, as the record says.
    """

    def __init__(
        self,
        registry: Registry,
        device: str | None = None,
        data_root: Path | None = None,
        progress: Progress | None = None,
        train: bool = False,
    ) -> None:
        self.registry = registry
        self.device = device
        self.data_root = data_root
        self.progress = progress
        self.train = train
        self._loaders: dict[torch.device, Loader] = {}
        self._metrics = metrics_of(registry)

    def verify(
        self,
        record: Record,
        samples: Path | None = None,
        weights: Path | None = None,
        images: ImageResults | None = None,
    ) -> Finding:
        """Run the record's cell again in a temporary folder, and compare.

        Args:
            record: to be verified.
            samples: folder of the per-image results that were kept with it.
            weights: folder of the weights; by default those here that have the record's digest.
            images: the results of each image that were published with it.
        """
        try:
            device = self.device_of(record)
            with threads(record, device), tempfile.TemporaryDirectory() as folder:
                return self._again(record, device, Path(folder), samples, weights, images)
        except UsageError as error:
            return Finding(record, "impossible", (str(error)[:500],))

    def _again(
        self,
        record: Record,
        device: torch.device,
        folder: Path,
        samples: Path | None,
        weights: Path | None,
        images: ImageResults | None,
    ) -> Finding:
        config = self.config(record, device, folder)
        cell = planned(record, config, self.registry)
        same = variant(cell, record) is not None
        if not same and (others := other_revisions(record, self.registry)):
            return Finding(record, "differs", (f"not run: {'; '.join(others)}",))
        loader = self.loader(device)
        card = loader.dataset(cell.trained).card()
        if card.digest != record.dataset.digest:
            return Finding(record, "digest", (f"data set: digest {record.dataset.digest} -> {card.digest}",))
        try:
            weights = self.weights_of(record, cell, loader, weights)
            Artifact(weights)
        except WeightsError as error:
            return Finding(record, "digest", (str(error),))
        if not same:
            ids = f"{record.cell_id} -> {planned_id(cell, record)}"
            return Finding(record, "differs", (f"cell id: {ids}: parameters are others; it was not run",))
        if moved := loader.deployment(cell.trained, weights).moved_gates():
            told = f"not run: {weights / CALIBRATION} holds other thresholds; delete it to verify without them"
            return Finding(record, "differs", (told, *moved))
        again, made = self.measured(record, replace(config, weights=weights), loader)
        if others := compare.other_digests(record, again):
            return Finding(record, "digest", tuple(others))
        others = other_images(record, samples, images, made)
        notes = [*self._figures(record, again, made, cell, loader), *others]
        if again.cell_id != record.cell_id:
            notes.append(f"cell id: {record.cell_id} -> {again.cell_id}")
        if not notes and not compare.unlike(record, again):
            return Finding(record, "identical", unsaid(record, again))
        notes = [*compare.notes(record, again), *notes] or [
            f"{name}: {one} -> {two}"[:200] for name, (one, two) in compare.unlike(record, again).items()
        ]
        away = elsewhere(record, device)
        within = bool(away) and close(record, again, images, made)
        if not away and (others or compare.changed(record, again)):
            second = replace(config, weights=weights, out=folder / "second")
            away = unrepeatable((again, made), self.measured(record, second, loader))
        return Finding(record, "within" if within else "differs", (*notes, *away))

    def measured(self, record: Record, config: RunConfig, loader: Loader) -> tuple[Record, Path]:
        """The cell of a record, measured again as ``config`` says, and the file with the results of its images."""
        runner = Runner(config, self.registry, self.progress)
        runner.loader = loader
        (again,) = [each for each in runner.run() if each.role == record.role]
        return again, config.out / SAMPLES / f"{again.cell_id}.parquet"

    def _figures(self, record: Record, again: Record, made: Path, cell: Cell, loader: Loader) -> list[str]:
        """In what the record does not follow from the images of the cell that was measured again.

        Only where its answers are the same: if they are not, that is what is wrong.
        """
        if compare.unlike(record, again) or not made.is_file() or record.dataset.task == "multi-label":
            return []
        trained = cell.trained
        partition = format_ref(trained.partition) if trained.partition else None
        split = TestSplit(**facts_of(loader.dataset(trained, cell.threat.finding), partition))
        return list(faults(record, from_samples(made), split, self._metrics))

    def weights_of(self, record: Record, cell: Cell, loader: Loader, weights: Path | None) -> Path:
        """The folder of the record's weights; those of its surrogate will be used as well.

        Raises:
            WeightsError: they are not here, and are not trained.
        """
        if cell.surrogate is not None and record.surrogate is not None:
            surrogate = record.surrogate
            loader.pin(cell.surrogate, self._with_digest(cell.surrogate, loader, surrogate.digest, surrogate.seed))
        if weights is not None:
            return local(weights)
        own = record.defense.weights
        try:
            return self._with_digest(cell.trained, loader, str(own.digest), own.seed)
        except WeightsError as error:
            if not own.source:
                raise
            # A stranger's record does not decide what is downloaded.
            raise WeightsError(f"{error}, or download them: --weights {own.source}") from None

    def _with_digest(self, ref: TrainedRef, loader: Loader, digest: str, seed: int | None) -> Path:
        resolved, card = loader.resolved(ref), loader.dataset(ref).card()
        folder = with_digest(resolved, card, digest)
        if folder is not None:
            return folder
        command = replace(ref, seed=seed).command(self.data_root)
        if not self.train and ready_seed(resolved, card, seed) is None:
            raise WeightsError(
                f"weights: none with digest {digest} are here; train them, `{command}`, or name a folder"
            )
        made = Loader(self.registry, loader.device, self.data_root, self.progress, train=True).deployment(
            replace(ref, seed=seed)
        )
        if made.artifact.digest != digest:
            raise WeightsError(
                f"weights: `{command}` makes digest {made.artifact.digest} here, not {digest}; training depends on the "
                "processor and on versions of libraries"
            )
        return made.artifact.folder

    def opened(self, record: Record, weights: Path | None = None) -> tuple[Dataset, Deployment]:
        """The data set and the trained defense of a record, as they were measured.

        Raises:
            UsageError: they are not here, or are others than the record's.
        """
        device = self.device_of(record)
        set_float32()
        with tempfile.TemporaryDirectory() as folder:
            config = self.config(record, device, Path(folder))
        trained, loader = planned(record, config, self.registry).trained, self.loader(device)
        dataset = loader.dataset(trained)
        card = dataset.card()
        if card.digest != record.dataset.digest:
            raise DataError(f"the images have digest {card.digest}, those of the record {record.dataset.digest}")
        wanted = str(record.defense.weights.digest)
        folder_of = local(weights) if weights else with_digest(loader.resolved(trained), card, wanted)
        if folder_of is None:
            raise WeightsError(f"no weights with digest {wanted} are here; name them: --weights")
        deployment = loader.deployment(trained, folder_of)
        if deployment.artifact.digest != wanted:
            raise WeightsError(f"{folder_of} has digest {deployment.artifact.digest}, the record's weights {wanted}")
        return dataset, deployment

    def config(self, record: Record, device: torch.device, out: Path) -> RunConfig:
        """The run that measures the cell of a record on a device, its results in ``out``."""
        return build({**request(record), "device": str(device), "data_root": self.data_root, "out": out})

    def device_of(self, record: Record) -> torch.device:
        """Where the cell of a record is run again."""
        if self.device is not None:
            return find_device(self.device)
        kind = (record.provenance.device or "cpu").partition(":")[0]
        return find_device("cuda" if kind == "cuda" and torch.cuda.is_available() else "cpu")

    def loader(self, device: torch.device) -> Loader:
        """Data sets and weights on a device."""
        if device not in self._loaders:
            self._loaders[device] = Loader(self.registry, device, self.data_root, self.progress)
        return self._loaders[device]


def unsaid(record: Record, again: Record) -> tuple[str, ...]:
    """A note on what a record of an older format does not say."""
    names = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in compare.unsaid(record, again)))
    return (f"an older format, which does not say: {', '.join(names)}",) if names else ()


def planned(record: Record, config: RunConfig, registry: Registry) -> Cell:
    """The cell of the record, as it is planned from what the record says.

    Raises:
        BadConfig: there is no such cell, or more than one.
    """
    found = [cell for each in plan(config, registry) if (cell := cell_of(each)).role == record.role]
    if len(found) != 1:
        raise BadConfig(f"record {record.cell_id} asks for {len(found)} cells instead of one")
    return found[0]


@contextmanager
def threads(record: Record, device: torch.device) -> Iterator[None]:
    """As many threads as the record's cell had: sums of floats depend on it."""
    before, wanted = torch.get_num_threads(), record.provenance.hardware.threads
    if device.type == "cpu" and wanted is not None and 1 <= wanted <= 1024:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
