"""Does a record hold? Its cell is run again from what the record says, and both are compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from robustbench_med.defenses.artifact import Artifact
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.weights import with_digest
from robustbench_med.errors import BadConfig, DataError, UsageError, WeightsError
from robustbench_med.files.provenance import provenance
from robustbench_med.grid.cell import Cell, Skip
from robustbench_med.grid.config import RunConfig, build
from robustbench_med.grid.plan import plan
from robustbench_med.interfaces import Dataset
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Progress
from robustbench_med.records import compare
from robustbench_med.records.record import Record
from robustbench_med.records.rerun import request
from robustbench_med.records.sections.provenance import ProvenanceSection
from robustbench_med.runner.runner import Runner
from robustbench_med.runtime.batching import find_device
from robustbench_med.training.loader import Loader

#: identical: every figure, and every image where samples are kept; within: other hardware or libraries, and every share
#: within its interval; digest: data or weights are others than the record's; impossible: it cannot be run again here.
Verdict = Literal["identical", "within", "differs", "digest", "impossible"]
#: What must agree before figures on a CPU must be identical.
ENVIRONMENT = (
    *("device", "versions.python", "versions.torch", "versions.numpy", "hardware.machine"),
    *("hardware.processor", "hardware.instructions", "hardware.threads"),
)


@dataclass(frozen=True)
class Finding:
    """What became of a record's verification."""

    record: Record
    verdict: Verdict
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the record can be believed."""
        return self.verdict in ("identical", "within")


class Verifier:
    """Runs cells again, and opens what they share once.

    Args:
        registry: where the components come from.
        device: where to run; by default where the record's cell ran, if that is here, else on the CPU.
        data_root: folder of the user's images.
        progress: opens progress bars.
    """

    def __init__(
        self,
        registry: Registry,
        device: str | None = None,
        data_root: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.registry = registry
        self.device = device
        self.data_root = data_root
        self.progress = progress
        self._loaders: dict[torch.device, Loader] = {}

    def verify(self, record: Record, samples: Path | None = None, weights: Path | None = None) -> Finding:
        """Run the record's cell again in a temporary folder, and compare.

        Args:
            record: to be verified.
            samples: folder of the per-image results that were kept with it.
            weights: folder of the weights; by default those here that have the record's digest.
        """
        try:
            options = request(record)
            device = self._device(record)
            with _threads(record, device), tempfile.TemporaryDirectory() as folder:
                return self._again(record, options, device, Path(folder), samples, weights)
        except UsageError as error:
            return Finding(record, "impossible", (str(error)[:500],))

    def _again(
        self,
        record: Record,
        options: dict[str, Any],
        device: torch.device,
        folder: Path,
        samples: Path | None,
        weights: Path | None,
    ) -> Finding:
        config = build({**options, "device": str(device), "data_root": self.data_root, "out": folder})
        trained, loader = _planned(record, config, self.registry).trained, self._loader(device)
        card = loader.dataset(trained).card()
        if card.digest != record.dataset.digest:
            return Finding(record, "digest", (f"data set: digest {record.dataset.digest} -> {card.digest}",))
        wanted = record.defense.weights.digest
        weights = weights or with_digest(loader.resolved(trained), card, str(wanted))
        if weights is None:
            return Finding(record, "digest", (f"weights: none with digest {wanted} are here; name them: --weights",))
        try:
            Artifact(weights)
        except WeightsError as error:
            return Finding(record, "digest", (str(error),))
        runner = Runner(replace(config, weights=weights), self.registry, self.progress)
        runner.loader = loader
        (again,) = [each for each in runner.run() if each.role == record.role]
        if others := compare.other_digests(record, again):
            return Finding(record, "digest", tuple(others))
        notes = list(compare.notes(record, again))
        if again.cell_id != record.cell_id:
            notes.insert(0, f"cell id: {record.cell_id} -> {again.cell_id}: parameters or revisions are others")
        kept, made = (
            place / f"{each.cell_id}.parquet" if place else None
            for place, each in ((samples, record), (folder / "samples", again))
        )
        images = _other_images(kept, made)
        if images:
            notes.append(images)
        if not compare.changed(record, again) and not images and again.cell_id == record.cell_id:
            return Finding(record, "identical")
        elsewhere = _elsewhere(record, device)
        alike = record.status == again.status and not compare.outside(record, again)
        close = alike and again.cell_id == record.cell_id and bool(elsewhere)
        return Finding(record, "within" if close else "differs", (*notes, *elsewhere))

    def opened(self, record: Record, weights: Path | None = None) -> tuple[Dataset, Deployment]:
        """The data set and the trained defense of a record, as they were measured.

        Raises:
            UsageError: they are not here, or are others than the record's.
        """
        device = self._device(record)
        with tempfile.TemporaryDirectory() as folder:
            options = request(record)
            config = build({**options, "device": str(device), "data_root": self.data_root, "out": Path(folder)})
        trained, loader = _planned(record, config, self.registry).trained, self._loader(device)
        dataset = loader.dataset(trained)
        card = dataset.card()
        if card.digest != record.dataset.digest:
            raise DataError(f"the images have digest {card.digest}, those of the record {record.dataset.digest}")
        wanted = str(record.defense.weights.digest)
        folder_of = weights or with_digest(loader.resolved(trained), card, wanted)
        if folder_of is None:
            raise WeightsError(f"no weights with digest {wanted} are here; name them: --weights")
        deployment = loader.deployment(trained, folder_of)
        if deployment.artifact.digest != wanted:
            raise WeightsError(f"{folder_of} has digest {deployment.artifact.digest}, the record's weights {wanted}")
        return dataset, deployment

    def _device(self, record: Record) -> torch.device:
        if self.device is not None:
            return find_device(self.device)
        kind = (record.provenance.device or "cpu").partition(":")[0]
        return find_device("cuda" if kind == "cuda" and torch.cuda.is_available() else "cpu")

    def _loader(self, device: torch.device) -> Loader:
        if device not in self._loaders:
            self._loaders[device] = Loader(self.registry, device, self.data_root, self.progress)
        return self._loaders[device]


def _planned(record: Record, config: RunConfig, registry: Registry) -> Cell:
    """The cell of the record, as it is planned from what the record says.

    Raises:
        BadConfig: there is no such cell, or more than one.
    """
    cells = [each.cell if isinstance(each, Skip) else each for each in plan(config, registry)]
    found = [cell for cell in cells if cell.role == record.role]
    if len(found) != 1:
        raise BadConfig(f"record {record.cell_id} asks for {len(found)} cells instead of one")
    return found[0]


def _elsewhere(record: Record, device: torch.device) -> list[str]:
    """In what this machine is not that of the record; empty on a CPU where figures must be identical."""
    flat = compare.flat(record, ("provenance",))
    here = compare.flat(
        record.model_copy(update={"provenance": ProvenanceSection(**provenance(device))}), ("provenance",)
    )
    found = [
        f"{name}: {flat.get(f'provenance.{name}')} -> {here.get(f'provenance.{name}')}"
        for name in ENVIRONMENT
        if flat.get(f"provenance.{name}") != here.get(f"provenance.{name}")
    ]
    return found or ([f"device: {device} is not bound to repeat itself"] if device.type != "cpu" else [])


def _other_images(kept: Path | None, made: Path | None) -> str | None:
    """How many images have other results than those that were kept; None where none has, or none were kept."""
    if kept is None or made is None or not kept.is_file() or not made.is_file():
        return None
    try:
        before = pd.read_parquet(kept)
    except (OSError, ValueError) as error:  # pyarrow's errors are these
        return f"per-image results {kept.name} cannot be read ({' '.join(str(error).split())[:200]})"
    after = pd.read_parquet(made)
    if list(before.columns) != list(after.columns) or len(before) != len(after):
        return f"per-image results {kept.name} are of other images or columns"
    equal = (before == after) | (before.isna() & after.isna())
    rows = (~equal.all(axis=1)).to_numpy()
    return f"{before['index'][rows].nunique()} of {before['index'].nunique()} images differ" if rows.any() else None


@contextmanager
def _threads(record: Record, device: torch.device) -> Iterator[None]:
    """As many threads as the record's cell had: sums of floats depend on it."""
    before, wanted = torch.get_num_threads(), record.provenance.hardware.threads
    if device.type == "cpu" and wanted is not None and 1 <= wanted <= 1024:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
