"""Images that a Python program hands over in place of the name of a data set: arrays, a `Dataset`, a `DataLoader`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_med.errors import DataError, RbmedWarning
from robustbench_med.interfaces.dataset import SPLITS, Split
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.tasks import Task

#: Data of this process by their keys.
_OWN: dict[str, OwnData] = {}
#: Texts of values that are missing in a table or an array.
_MISSING = ("", "none", "nan", "<na>", "nat", "na", "n/a", "null")


@dataclass(frozen=True)
class OwnData:
    """Images in memory, by split; `own_data` makes it.

    Attributes:
        key: changes with the images, labels, patients, sites, classes and lesion.
        classes: names, in the order of the labels.
        splits: train, calibration and test; those that were not given are empty.
        lesion: index of the class that means that a lesion is there, or None.
        patients_known: ids of patients were given.
        task: what labels say.
    """

    key: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    lesion: int | None = None
    patients_known: bool = False
    task: Task = "multi-class"


def own_data(
    test: Any,
    *,
    classes: Sequence[str] | None = None,
    patients: Sequence[str] | None = None,
    sites: Sequence[str] | None = None,
    lesion: str | None = None,
    train: Any = None,
    calibration: Any = None,
    ordinal: bool = False,
) -> OwnData:
    """Images of a Python program as data for ``evaluate(dataset=...)``; they stay in this process.

    ::

        data = own_data((images, labels), classes=["healthy", "tumour"], patients=ids, lesion="tumour")
        results = evaluate(model=net, dataset=data, attack="apgd")

    Args:
        test: the images that are attacked and their labels: a pair of arrays, a torch `Dataset` of such pairs, or a
            `DataLoader`, which is read to its end. Images are (N, C, H, W), or (N, H, W) for one channel, square, float
            in [0, 1] or uint8 in [0, 255]; labels are integers (N,) from 0, or of several findings 0 and 1, (N, K) with
            K >= 2, which makes the task multi-label.
        classes: their names, in the order of the labels; by default ``class 0``, ``class 1``, ...
        patients: the patient of each test image. Without it each image counts as a patient, and intervals are too
            narrow where several are of one.
        sites: the hospital of each test image; by default all are of one.
        lesion: the class that means that a lesion is there; sensitivity counts it.
        train: further images, as ``test``, for parts that are trained; none are needed for a classifier alone.
        calibration: further images, as ``test``, for the thresholds of detectors.
        ordinal: labels are grades, from the lowest.

    Raises:
        DataError: shapes, types or ranges are wrong, or names do not fit.
    """
    pairs = {"train": train, "calibration": calibration, "test": test}
    read = {name: _pair(given, name) for name, given in pairs.items() if given is not None}
    images, labels = read["test"]
    if patients is not None or sites is not None:
        _check_order(test)
    task = _task([own for _, own in read.values()], ordinal, lesion)
    names = _names(classes, [own for _, own in read.values()], lesion)
    for word, given in (("patients", patients), ("sites", sites)):
        if given is not None and len(given) != len(labels):
            raise DataError(
                f"{word} has {plural(len(given), 'entry', 'entries')} for {plural(len(labels), 'test image')}"
            )
        values = [] if given is None else [str(value).casefold() for value in given]
        if lost := [at for at, value in enumerate(values) if value in _MISSING]:
            raise DataError(
                f"{word} has no value for {plural(len(lost), 'test image')}, {lost[0]} for example: all of them would "
                "be of one; give each its own"
            )
    where = set(map(str, sites)) if sites is not None else {"own"}
    splits = {name: Split(images[:0], labels[:0], (), ()) for name in SPLITS}
    for name, (own, own_labels) in read.items():
        if own.shape[1:] != images.shape[1:]:
            raise DataError(f"{name} images are {_shape(own)}, test images {_shape(images)}; all must be of one size")
        whose = patients if name == "test" and patients is not None else [f"{name}-{i}" for i in range(len(own))]
        given_sites = sites if name == "test" and sites is not None else [min(where)] * len(own)
        splits[name] = Split(own, own_labels, tuple(map(str, whose)), tuple(map(str, given_sites)))
    said = [*(["ordinal"] if ordinal else []), *([] if lesion is None else [f"lesion: {lesion}"])]
    key = f"own-{_digest(splits, (*names, *said))}"
    index = None if lesion is None else names.index(lesion)
    _OWN[key] = OwnData(key, names, splits, index, patients is not None, task)
    return _OWN[key]


def _task(labels: Sequence[Tensor], ordinal: bool, lesion: str | None) -> Task:
    """What labels of these forms ask.

    Raises:
        DataError: they have several forms, or one that does not fit the other options.
    """
    if len(widths := {own.shape[1:] for own in labels}) > 1:
        raise DataError(f"labels of test, train and calibration have several forms: {sorted(map(str, widths))}")
    if labels[0].ndim != 2:
        return "ordinal" if ordinal else "multi-class"
    if ordinal or lesion is not None:
        raise DataError("labels (N, K) are of several findings; ordinal=True and lesion= are for one label each")
    if all((own.sum(1) == 1).all() for own in labels):
        raise DataError(
            "labels (N, K) are of several findings, but each image has exactly one, as of classes in one-hot form; "
            "give the classes: labels.argmax(1)"
        )
    return "multi-label"


def _names(classes: Sequence[str] | None, labels: Sequence[Tensor], lesion: str | None) -> tuple[str, ...]:
    """The names of the classes, or of the findings of labels (N, K).

    Raises:
        DataError: there are too few, two are equal, or none is that of the lesion.
    """
    several = labels[0].shape[1] if labels[0].ndim == 2 else 0
    count = several or 1 + max(int(own.max()) for own in labels if len(own))
    names = tuple(map(str, classes)) if classes is not None else tuple(f"class {k}" for k in range(max(2, count)))
    if several and len(names) != several:
        raise DataError(f"classes={list(names)!r} must be {several} names, one for each finding")
    if len(names) < count or len(set(names)) < len(names) or len(names) < 2:
        raise DataError(
            f"classes={list(names)!r} must be at least {max(2, count)} different names: labels go to {count - 1}"
        )
    if lesion is not None and lesion not in names:
        raise DataError(f"lesion={lesion!r} is none of the classes {', '.join(names)}")
    return names


def held_data(key: str) -> OwnData:
    """The images that were handed over under this key.

    Raises:
        DataError: there are none in this process.
    """
    if key not in _OWN:
        raise DataError(f"there are no images {key!r} in this process; hand them to evaluate(dataset=...)")
    return _OWN[key]


def named(data: Any) -> Any:
    """A data set as a reference: images that are handed over are kept; names, tables and lists of these are not."""
    if isinstance(data, OwnData):
        return f"own:source={data.key}"
    if isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], str):
        return named(own_data(data))
    if isinstance(data, list | tuple):
        return [named(each) for each in data]
    if isinstance(data, torch.utils.data.Dataset | torch.utils.data.DataLoader):
        return named(own_data(data))
    return data


def is_own(named: Any) -> bool:
    """Whether a reference, or one in a list, is of images that were handed over."""
    several = named if isinstance(named, list | tuple) else [named]
    return any(isinstance(each, str) and each.startswith("own:") for each in several)


def _pair(given: Any, name: str) -> tuple[Tensor, Tensor]:
    """Images, float32 (N, C, H, W) in [0, 1], and labels, int64 (N,) or of findings (N, K)."""
    if isinstance(given, tuple) and len(given) == 2:
        images, labels = given
    else:
        images, labels = _collected(given, name)
    return _images(_tensor(images, f"{name} images"), name), _labels(
        _tensor(labels, f"{name} labels"), len(images), name
    )


def _collected(given: Any, name: str) -> tuple[Any, Any]:
    """All pairs of a data set, or all batches of a loader."""
    loader = isinstance(given, torch.utils.data.DataLoader)
    if loader and (hasattr(given.sampler, "weights") or getattr(given.sampler, "replacement", False)):
        raise DataError(
            f"{name}: the DataLoader draws images by chance, some of them several times; use one that gives each once"
        )
    if not isinstance(given, Iterable) and not hasattr(given, "__getitem__"):
        raise DataError(
            f"{name}: a {type(given).__name__} is no data; give (images, labels), a Dataset or a DataLoader"
        )
    size = None if loader else len(given)
    items = list(given) if loader or size is None else [given[i] for i in range(size)]
    if not items or not all(isinstance(each, list | tuple) and len(each) == 2 for each in items):
        raise DataError(f"{name}: every item must be a pair (image, label); write a Dataset that gives these alone")
    images = [_tensor(image, f"{name} images") for image, _ in items]
    labels = [_tensor(label, f"{name} labels") for _, label in items]
    if len({tuple(image.shape[loader:]) for image in images}) > 1:
        raise DataError(f"{name}: images have different shapes; resize them to one")
    join = torch.cat if loader else torch.stack
    return join(images), join(labels)


def _check_order(given: Any) -> None:
    """Raise `DataError` for a loader that gives images in another order than that of their patients and sites."""
    sampler = getattr(given, "sampler", None) if isinstance(given, torch.utils.data.DataLoader) else None
    if isinstance(sampler, torch.utils.data.RandomSampler | torch.utils.data.SubsetRandomSampler):
        raise DataError("the DataLoader shuffles the images away from their patients and sites; use shuffle=False")


def _tensor(values: Any, what: str) -> Tensor:
    try:
        return values.detach().cpu() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} are no array of numbers: {error}") from None


def _images(images: Tensor, name: str) -> Tensor:
    if images.ndim == 3:
        images = images.unsqueeze(1)
    if images.ndim != 4 or len(images) == 0 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
        raise DataError(
            f"{name} images have shape {tuple(images.shape)}; valid: (N, C, H, W) with C 1 or 3 and H = W, or (N, H, W)"
        )
    if images.dtype == torch.uint8:
        return _lit(images.float() / 255, name)
    if not images.is_floating_point():
        raise DataError(f"{name} images are {images.dtype}; valid: uint8 in [0, 255], or float in [0, 1]")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{name} images span [{low:.4g}, {high:.4g}]; valid: [0, 1], before normalisation, which is the model's"
        )
    return _lit(images.float(), name)


def _lit(images: Tensor, name: str) -> Tensor:
    if (high := float(images.max())) < 1 / 16:
        said = f"{name} images are nearly black: no pixel is above {high:.2g}; were they divided by 255 twice?"
        warnings.warn(said, RbmedWarning, stacklevel=2)
    return images.contiguous()


def _labels(labels: Tensor, count: int, name: str) -> Tensor:
    labels = labels.squeeze(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim == 2 and len(labels) == count and not labels.is_complex() and ((labels == 0) | (labels == 1)).all():
        return labels.long()
    if labels.shape != (count,) or labels.is_floating_point() or labels.is_complex() or (labels < 0).any():
        raise DataError(
            f"{name} labels have shape {tuple(labels.shape)} and type {labels.dtype} for {plural(count, 'image')}; "
            "valid: one integer >= 0 for each image, or 0 and 1 for each of several findings"
        )
    return labels.long()


def _shape(images: Tensor) -> str:
    return " x ".join(map(str, images.shape[1:]))


def _digest(splits: Mapping[str, Split], classes: Sequence[str]) -> str:
    total = hashlib.blake2b(repr(list(classes)).encode(), digest_size=8)
    for name, split in splits.items():
        total.update(repr((name, split.patients, split.sites, split.labels.tolist())).encode())
        total.update(split.images.numpy().tobytes())
    return total.hexdigest()
