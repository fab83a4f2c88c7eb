"""Checks of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from robustbench_med.errors import DataError
from robustbench_med.interfaces.dataset import SPLITS, DataCard, Dataset, Split
from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.tasks import TASKS
from robustbench_med.plugins.specs import DatasetSpec
from robustbench_med.testing.checking import Checks, NotApplicable, Subject

check = Checks()


def _spec(subject: Subject) -> DatasetSpec:
    assert isinstance(subject.entry.spec, DatasetSpec)
    return subject.entry.spec


def _dataset(subject: Subject) -> Dataset:
    if _spec(subject).needs_root and subject.data_root is None:
        raise NotApplicable("it needs the user's images: --data-root FOLDER")
    dataset: Dataset = subject.build(root=subject.data_root)
    return dataset


def _splits(subject: Subject) -> dict[str, Split]:
    def make() -> dict[str, Split]:
        dataset = _dataset(subject)
        return {name: dataset.split(name) for name in SPLITS}

    return subject.once("splits", make)


def _card(subject: Subject) -> DataCard:
    return subject.once("card", lambda: _dataset(subject).card())


@check("card", "Its card agrees with the spec and is complete")
def card(subject: Subject) -> Iterator[str]:
    """Name, classes, licence, citation, digest."""
    spec, found = _spec(subject), _card(subject)
    if found.name != spec.name or found.synthetic != spec.synthetic:
        said = f"{found.name!r}, synthetic={found.synthetic}"
        yield f"card states {said}; the spec {spec.name!r}, synthetic={spec.synthetic}"
    if found.task not in TASKS:
        yield f"task is {found.task!r}; valid: {', '.join(TASKS)}"
    least = 1 if found.task == "multi-label" else 2
    if len(found.classes) < least or len(set(found.classes)) != len(found.classes):
        yield f"has fewer than {least} classes or findings, or two of one name: {', '.join(found.classes)}"
    if found.lesion_class is not None and not 0 <= found.lesion_class < len(found.classes):
        yield f"lesion_class={found.lesion_class} is not a class"
    for name in ("licence", "citation", "digest"):
        if not getattr(found, name):
            yield f"the card's {name} is empty"


@check("images", "Its images are float32 in [0, 1] of the size that the card says")
def images(subject: Subject) -> Iterator[str]:
    """(N, C, H, W), in every split."""
    found = _card(subject)
    shape = (found.channels, found.size, found.size)
    for name, split in _splits(subject).items():
        if split.images.dtype != torch.float32 or tuple(split.images.shape[1:]) != shape:
            yield f"{name}: images are {split.images.dtype} {tuple(split.images.shape[1:])}, not float32 {shape}"
        elif len(split) == 0:
            yield f"{name}: has no images"
        elif not (split.images.isfinite().all() and split.images.min() >= 0 and split.images.max() <= 1):
            low, high = float(split.images.min()), float(split.images.max())
            yield f"{name}: images span [{low:.4g}, {high:.4g}], outside [0, 1]"


@check("labels", "Every image has a label, a patient and a site")
def labels(subject: Subject) -> Iterator[str]:
    """int64, below the number of classes; of findings 0 and 1, one for each."""
    found = _card(subject)
    classes = 2 if found.task == "multi-label" else len(found.classes)
    shape = (len(found.classes),) if found.task == "multi-label" else ()
    for name, split in _splits(subject).items():
        counts = {len(split.images), len(split.labels), len(split.patients), len(split.sites)}
        if len(counts) > 1:
            yield f"{name}: images, labels, patients and sites are not equally many: {sorted(counts)}"
        if tuple(split.labels.shape[1:]) != shape:
            wanted = f"(N, {len(found.classes)})" if shape else "(N,)"
            yield f"{name}: labels have shape {tuple(split.labels.shape)}, not {wanted} as of task {found.task}"
        if split.labels.dtype != torch.int64:
            yield f"{name}: labels are {split.labels.dtype}, not int64"
        elif len(split) and not (split.labels.min() >= 0 and split.labels.max() < classes):
            low, high = int(split.labels.min()), int(split.labels.max())
            yield f"{name}: labels go from {low} to {high}; there are {classes} classes"


@check("lesions", "What it measures of lesions is float32, one number for each image, NaN where there is none")
def lesions(subject: Subject) -> Iterator[str]:
    """Names as in `robustbench_med.interfaces.lesions`; not negative."""
    splits = _splits(subject)
    if not any(split.lesions for split in splits.values()):
        raise NotApplicable("it does not measure lesions")
    for name, split in splits.items():
        for what, values in split.lesions.items():
            if what not in LESIONS:
                yield f"{name}: {what!r} is no measurement of a lesion; valid: {', '.join(LESIONS)}"
            elif values.dtype != torch.float32 or tuple(values.shape) != (len(split),):
                yield f"{name}: {what} is {values.dtype} {tuple(values.shape)}, not float32 ({len(split)},)"
            elif bool((values < 0).any()) or bool(values.isinf().any()):
                yield f"{name}: {what} is negative or infinite for some images"


@check("patients-apart", "No patient is in two splits")
def patients_apart(subject: Subject) -> Iterator[str]:
    """Otherwise the test would measure memorisation."""
    for (one, a), (other, b) in combinations(_splits(subject).items(), 2):
        if both := sorted(set(a.patients) & set(b.patients)):
            yield f"{plural(len(both), 'patient is', 'patients are')} in {one} and in {other}: {', '.join(both[:3])}"


@check("repeatable", "Opened again, it gives the same images and the same digest")
def repeatable(subject: Subject) -> Iterator[str]:
    """With a new instance."""
    again = _dataset(subject)
    if again.card() != _card(subject):
        yield "its card differs when opened again"
    before, after = _splits(subject)["test"], again.split("test")
    if not (
        torch.equal(before.images, after.images) and replace(before, images=after.images).patients == after.patients
    ):
        yield "gives other images when opened again; the digest must change with them"


@check("clear-errors", "A folder without its images is rejected in one line")
def clear_errors(subject: Subject) -> Iterator[str]:
    """With `DataError`, which names the folder."""
    if not _spec(subject).needs_root:
        raise NotApplicable("it needs no folder")
    with TemporaryDirectory() as folder:
        try:
            dataset: Dataset = subject.build(root=Path(folder))
            problems = dataset.check()
            dataset.card()
            dataset.split("test")
        except DataError as error:
            if "\n" in str(error):
                yield "an empty folder is rejected in more than one line"
            return
        if not problems:
            yield "an empty folder is accepted, and check() finds no problem in it"
