"""Open a data set: its class, its parameters, the user's images, and the assignment of patients to clients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from robustbench_med.datasets.checked import Checked
from robustbench_med.datasets.clients import partitioned, without
from robustbench_med.files.paths import data_root
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.specs import DatasetSpec

if TYPE_CHECKING:
    from robustbench_med.interfaces.dataset import Dataset
    from robustbench_med.plugins.registry import Registry
    from robustbench_med.progress import Progress
import torch

from robustbench_med.interfaces.dataset import Split


def open_dataset(
    registry: Registry,
    ref: PartRef,
    root: Path | str | None = None,
    progress: Progress | None = None,
    *,
    partition: PartRef | None = None,
    unseen: tuple[str, ...] = (),
) -> Dataset:
    """The data set ``ref``; ``root`` is the folder of the user's images, for data sets that need one.

    ``partition`` assigns the patients to other clients; then the sites ``unseen`` are left out of training.

    Raises:
        UnknownName, AmbiguousName, BadParameter: a reference or a site is wrong.
        DataError: the images are needed and not found.
    """
    entry = registry.find("dataset", ref.name)
    spec = entry.spec
    needed = isinstance(spec, DatasetSpec) and spec.needs_root
    folder = data_root(spec.name, root, getattr(spec, "root_files", ())) if needed else None
    made = cast("Dataset", create(registry, "dataset", ref, root=folder, progress=progress))
    return with_partition(Checked(made, str(entry)), partition, unseen)


def with_partition(dataset: Dataset, partition: PartRef | None = None, unseen: tuple[str, ...] = ()) -> Dataset:
    """The data set with its patients assigned to other clients, and without the training images of some of them."""
    if partition is not None:
        dataset = partitioned(dataset, partition)
    return without(dataset, unseen) if unseen else dataset


def rows_to_evaluate(
    test: Split,
    clients: tuple[str, ...],
    limit: int | None,
    goal: str = "untargeted",
    lesion: int | None = None,
    classes: int = 0,
) -> torch.Tensor:
    """Rows of the test split to evaluate, int64, at most ``limit``: one of each client, then the next of each, ...

    So a small subset holds images of every client. The order within a client is a fixed shuffle, because neighbouring
    rows are often slices of one patient. The goal ``hide-lesion`` takes images with a lesion, ``fake-lesion`` those
    without, ``distant`` those whose grade has another one more than one away among so many ``classes``.
    """
    turns: dict[str, int] = {}
    keyed = []
    labels = test.labels.tolist()
    shuffled = torch.randperm(len(test), generator=torch.Generator().manual_seed(0)).tolist()
    for row in shuffled:
        site = test.sites[row]
        if site in clients and _meant(labels[row], goal, lesion, classes):
            keyed.append((turns.setdefault(site, 0), row))
            turns[site] += 1
    chosen = [row for _, row in sorted(keyed)][:limit]
    return torch.tensor(sorted(chosen), dtype=torch.int64)


def _meant(label: int, goal: str, lesion: int | None, classes: int) -> bool:
    """Whether an image with this label is attacked with the goal."""
    if goal in ("hide-lesion", "fake-lesion"):
        return (label == lesion) == (goal == "hide-lesion")
    return goal != "distant" or max(label, classes - 1 - label) > 1
