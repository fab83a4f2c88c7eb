"""The cell of a record on images that those who handed it in have never seen.

A defense can memorise the test images, since they are public. What it learned by heart does not help on new ones: the
simulator with a seed that nobody knew before, or a folder of images that was held back. The weights, the gates and the
attack are those of the record; only the test images are others.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from robustbench_med.datasets.clients import joined
from robustbench_med.datasets.finding import asked
from robustbench_med.datasets.loading import open_dataset
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.errors import BadParameter, DataError
from robustbench_med.interfaces.dataset import SPLITS, DataCard, Dataset, Split
from robustbench_med.interfaces.plural import plural
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record
from robustbench_med.reproduction.verify import Verifier, planned, threads
from robustbench_med.runner.runner import Runner
from robustbench_med.statistics.comparison import LEVEL, p_value_of_intervals
from robustbench_med.training.loader import Loader

#: ``--fresh new``: a seed that is drawn now.
NEW = "new"
#: What the source of held-back images is called; their folder is no one's business.
HELD_BACK = "held back"
#: Accuracies that are compared.
COMPARED = ("clean_accuracy", "robust_accuracy")


@dataclass(frozen=True)
class FreshFinding:
    """What the system of a record does on new images.

    Attributes:
        record: as it was published.
        again: the same cell on new images; its ids and digests are of no use.
        source: where the images are from.
        falls: which accuracies are significantly lower on new images, two-sided, 5 %.
    """

    record: Record
    again: Record
    source: str
    falls: tuple[str, ...]

    @property
    def figures(self) -> dict[str, float]:
        """The accuracies on new images, by name."""
        return {name: self.again.metrics[name] or 0.0 for name in COMPARED}


class WithTest(Dataset):
    """A data set with other test images."""

    def __init__(self, dataset: Dataset, test: Split) -> None:
        super().__init__(dataset.params, dataset.root, dataset.progress)
        self.inner, self.test = dataset, test

    def card(self) -> DataCard:
        """That of the data set, so that its weights and gates fit."""
        return self.inner.card()

    def split(self, name: str) -> Split:
        """A split of the data set; the other images as ``test``."""
        return self.test if name == "test" else self.inner.split(name)


class _FreshLoader(Loader):
    """A loader whose data sets have other test images."""

    test: Split

    def dataset(self, ref: TrainedRef, finding: str = "") -> Dataset:
        """The data set with the other test images."""
        return asked(WithTest(super().dataset(ref), self.test), finding)


def checked_source(source: str) -> str:
    """A source of new images, before anything is run.

    Raises:
        BadParameter: it is neither ``new``, nor a seed, nor a folder.
    """
    if not (source == NEW or _is_seed(source) or Path(source).is_dir()):
        raise BadParameter(
            f"--fresh {source}: give {NEW}, a seed of the simulator (a number from 0), or a folder of held-back images"
        )
    return source


def _is_seed(source: str) -> bool:
    return source.isascii() and source.isdecimal()


def fresh(verifier: Verifier, record: Record, source: str, weights: Path | None = None) -> FreshFinding:
    """Run the cell of a record on new images.

    Args:
        verifier: finds weights.
        record: to be tried.
        source: a seed of the simulator, ``new`` for one that is drawn now, or a folder of images that were held back.
        weights: folder of the weights; by default those here that have the record's digest.

    Raises:
        UsageError: the cell cannot be run here, or the images are not new.
    """
    device = verifier.device_of(record)
    with threads(record, device), tempfile.TemporaryDirectory() as folder:
        config = replace(verifier.config(record, device, Path(folder)), share=False)
        cell, loader = planned(record, config, verifier.registry), verifier.loader(device)
        known = loader.dataset(cell.trained)
        if known.card().digest != record.dataset.digest:
            raise DataError(f"the images here have digest {known.card().digest}, not {record.dataset.digest}")
        folder_of = verifier.weights_of(record, cell, loader, weights)
        name, test = new_images(verifier.registry, cell.trained, known, source)
        served = cell.clients or loader.deployment(cell.trained, folder_of).artifact.clients
        if not set(served) & set(test.sites):
            raise DataError(
                f"--fresh {source}: its images are of {_few(test.sites)}, and the clients of the record are "
                f"{_few(served)}; name the folder of each client as in the data set"
            )
        own = _FreshLoader(verifier.registry, device, verifier.data_root, verifier.progress)
        own.test = test
        verifier.weights_of(record, cell, own, weights)  # pins those of the surrogate
        runner = Runner(replace(config, weights=folder_of), verifier.registry, verifier.progress)
        runner.loader = own
        (again,) = [each for each in runner.run() if each.role == record.role]
    if again.status != "ok":
        raise DataError(f"the cell could not be measured on new images: {again.reason}")
    return FreshFinding(record, again, name, tuple(what for what in COMPARED if _falls(record, again, what)))


def new_images(registry: Registry, ref: TrainedRef, known: Dataset, source: str) -> tuple[str, Split]:
    """Images that are not in a data set, and what to call their source.

    Raises:
        UsageError: the source is neither a seed nor a folder of such images, or it is the data set itself.
    """
    card = known.card()
    if source != NEW and not _is_seed(source):
        other = open_dataset(registry, ref.dataset, Path(source), partition=ref.partition)
        _new(card, other, f"--fresh {source}")
        filled = [split for split in map(other.split, SPLITS) if len(split)]
        if not filled:
            raise DataError("the folder holds no images")
        held = joined(filled)
        if seen := len(_digests(held) & {each for name in SPLITS for each in _digests(known.split(name))}):
            raise BadParameter(f"--fresh {source}: {seen} of its images are in the data set of the record; give others")
        return HELD_BACK, held
    if not card.synthetic or "seed" not in all_params(open_dataset(registry, ref.dataset).params):
        raise BadParameter(
            f"--fresh {source}: {card.name} is no simulator with a seed, so it has no new images; name a folder of "
            "images that were held back"
        )
    seed = secrets.randbelow(2**31) if source == NEW else int(source)
    new = PartRef(ref.dataset.name, {**ref.dataset.params, "seed": seed})
    other = open_dataset(registry, new, partition=ref.partition)
    _new(card, other, f"--fresh {seed}")
    return format_ref(new), other.split("test")


def _new(card: DataCard, other: Dataset, option: str) -> None:
    if other.card().digest == card.digest:
        raise BadParameter(f"{option}: these are the images of the record; give others")
    if other.card().classes != card.classes:
        raise BadParameter(
            f"{option}: its classes are {', '.join(other.card().classes)}, not {', '.join(card.classes)}"
        )


def _few(names: Iterable[str]) -> str:
    shown = sorted(set(names))
    return ", ".join(shown[:5]) + (f" and {plural(len(shown) - 5, 'other')}" if len(shown) > 5 else "")


def _digests(split: Split) -> set[bytes]:
    """One for each different image."""
    return {hashlib.sha256(image.numpy().tobytes()).digest() for image in split.images}


def _falls(record: Record, again: Record, what: str) -> bool:
    """Whether a figure is significantly lower on new images."""
    known = [(each.metrics.get(what), each.intervals.get(what)) for each in (record, again)]
    (before, one), (after, two) = known
    if before is None or after is None or one is None or two is None:
        return False
    return after < before and p_value_of_intervals((before, *one), (after, *two)) < LEVEL
