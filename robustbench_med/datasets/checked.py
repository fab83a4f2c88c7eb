"""What a data set of a plugin gives, checked before anything is trained or measured on it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from robustbench_med.errors import DataError
from robustbench_med.interfaces.dataset import DataCard, Dataset, Split
from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.tasks import TASKS
from robustbench_med.plugins.calls import process_kept
from robustbench_med.plugins.specs import NAME

#: Which images a split has, for short: sums of its bits, its labels, patients and sites.
_Short = tuple[Any, ...]
#: Numbers that are looked at in one go: a data set may fill half of the memory, and is not copied.
AT_ONCE = 1 << 22


class Checked(Dataset):
    """A data set that gives what its base gives, or raises `DataError` with the first fault of it.

    Without this a wrong label counts as a wrong answer, and pixels outside [0, 1] move by less than eps seems to say.

    Args:
        base: the data set.
        label: names it and where it comes from, in messages.
    """

    def __init__(self, base: Dataset, label: str) -> None:
        # A class of a plugin with a constructor of its own may lack what only this one would have set.
        super().__init__(base.params, getattr(base, "root", None), getattr(base, "progress", None))
        self.spec_name, self.spec_revision, self.multi_label = base.spec_name, base.spec_revision, base.multi_label
        self.base, self.label = base, label
        self._card: DataCard | None = None
        self._seen: dict[str, tuple[weakref.ref[Split], _Short]] = {}

    def card(self) -> DataCard:
        """See `Dataset`; equal to the first one that was given."""
        with process_kept():
            card = self.base.card()
        if self._card is None or card is not self._card:
            if fault := next(card_faults(card), None):
                raise DataError(f"{self.label}: its card {fault}")
            if self._card is not None and card != self._card:
                raise DataError(f"{self.label}: its card differs between two calls; it must always be the same")
            self._card = card
        return card

    def split(self, name: str) -> Split:
        """See `Dataset`; the same images as the first time."""
        with process_kept():
            split = self.base.split(name)
        before = self._seen.get(name)
        if before is not None and before[0]() is split:
            return split
        where = f"{self.label}: its split {name!r}"
        if fault := next(split_faults(split, self.card()), None):
            raise DataError(f"{where} {fault}")
        short = _short(split)
        if before is not None and before[1] != short:
            raise DataError(
                f"{where} has other images, labels or patients than before; draw them from a generator with a seed"
            )
        for other, (_, known) in self._seen.items():
            both = set(split.patients).intersection(known[2]) if other != name and self.card().patients_known else ()
            if both:
                raise DataError(
                    f"{where} has {plural(len(both), 'patient')} of {other!r} ({', '.join(sorted(both)[:3])}); "
                    "a patient is in one split, or the card says patients_known=False"
                )
        self._seen[name] = weakref.ref(split), short
        return split

    def __getstate__(self) -> dict[str, Any]:
        """What is copied, also to another process: no weak references, so that splits are read and checked again."""
        return {**self.__dict__, "_seen": {}}

    def sites_of(self, split: str) -> tuple[str, ...]:
        """See `Dataset`; where the images have to be read for it, they are checked."""
        if type(self.base).sites_of is Dataset.sites_of:
            return self.split(split).sites
        with process_kept():
            return self.base.sites_of(split)

    def check(self) -> list[str]:
        """See `Dataset`."""
        with process_kept():
            return self.base.check()


def card_faults(card: Any) -> Iterator[str]:
    """What is wrong with a card, the first fault first."""
    if not isinstance(card, DataCard):
        yield f"is a {type(card).__name__}, not a DataCard"
        return
    if card.task not in TASKS:
        yield f"says task={card.task!r}; valid: {', '.join(TASKS)}"
    least = 1 if card.task == "multi-label" else 2
    if not _texts(card.classes):
        yield f"says classes={card.classes!r:.80}, not a tuple of names"
    elif len(card.classes) < least:
        yield f"names {plural(len(card.classes), 'class', 'classes')}; valid: {least} or more"
    elif twice := sorted({name for name in card.classes if card.classes.count(name) > 1}):
        yield f"names two classes {twice[0]!r}; each has a name of its own"
    elif card.lesion_class is not None and not _whole(card.lesion_class, 0, len(card.classes) - 1):
        yield f"says lesion_class={card.lesion_class!r}; valid: None or 0 to {len(card.classes) - 1}"
    for name in ("channels", "size"):
        if not _whole(getattr(card, name), 1):
            yield f"says {name}={getattr(card, name)!r:.80}; valid: a whole number >= 1"
    for name in ("name", "digest"):
        if not (isinstance(getattr(card, name), str) and getattr(card, name)):
            yield f"says {name}={getattr(card, name)!r:.80}; valid: a text"
        elif name == "name" and not NAME.fullmatch(card.name):
            yield f"says name={card.name!r:.80}; valid: small letters, digits, '.', '_' and '-', as 'busi'"


def split_faults(split: Any, card: DataCard) -> Iterator[str]:
    """What is wrong with a split of a data set with this card, the first fault first."""
    if not isinstance(split, Split):
        yield f"is a {type(split).__name__}, not a Split"
        return
    shape = (card.channels, card.size, card.size)
    yield from _tensor("images", split.images, torch.float32, shape)
    yield from _tensor("labels", split.labels, torch.int64, (len(card.classes),) if card.task == "multi-label" else ())
    number = len(split.images)
    for name in ("patients", "sites"):
        if not _texts(getattr(split, name)):
            yield f"has {name} that are no tuple of texts, one for each image"
    counts = {name: len(getattr(split, name)) for name in ("images", "labels", "patients", "sites")}
    if len(set(counts.values())) > 1:
        yield f"has {', '.join(plural(count, name[:-1]) for name, count in counts.items())}, not equally many"
    if number:
        yield from _values("images", split.images)
        top = 1 if card.task == "multi-label" else len(card.classes) - 1
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high > top:
            yield f"has labels from {low} to {high}; valid: 0 to {top} ({', '.join(card.classes)[:80]})"
    if split.masks is not None:
        yield from _tensor("masks", split.masks, torch.bool, (1, *shape[1:]), number)
    if split.counterfactuals is not None:
        yield from _tensor("counterfactuals", split.counterfactuals, torch.float32, shape, number)
        if number:
            yield from _values("counterfactuals", split.counterfactuals)
    for name, values in split.lesions.items():
        if name not in LESIONS:
            yield f"measures {name!r} of lesions; valid: {', '.join(LESIONS)}"
        yield from _tensor(f"lesions[{name!r}]", values, torch.float32, (), number)


def _tensor(
    what: str, made: Any, dtype: torch.dtype, shape: tuple[int, ...], number: int | None = None
) -> Iterator[str]:
    """A line where this is no tensor of the type with ``shape`` for each image, on the CPU."""
    sizes = ["N" if number is None else str(number), *map(str, shape)]
    wanted = f"{str(dtype).removeprefix('torch.')} ({', '.join(sizes)})"
    if not isinstance(made, Tensor):
        yield f"has {what} that are a {type(made).__name__}, not a tensor {wanted}"
    elif made.dtype != dtype or tuple(made.shape[1:]) != shape or made.dim() != 1 + len(shape):
        yield f"has {what} that are {str(made.dtype).removeprefix('torch.')} {tuple(made.shape)}, not {wanted}"
    elif number is not None and len(made) != number:
        yield f"has {what} of {plural(len(made), 'image')}, not of {number}"
    elif made.device.type != "cpu" or made.layout != torch.strided:
        yield f"has {what} on {made.device} ({made.layout}), not dense and on the CPU"
    elif made.requires_grad:
        yield f"has {what} with a gradient; detach them"


def _values(what: str, images: Tensor) -> Iterator[str]:
    """A line where images are outside [0, 1]."""
    lowest, highest = torch.stack([torch.stack(part.aminmax()) for part in _parts(images)]).unbind(1)
    low, high = float(lowest.min()), float(highest.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        yield f"has {what} with values that are not finite"
    elif low < 0 or high > 1:
        yield f"has {what} with values from {low:.4g} to {high:.4g}; valid: 0 to 1"


def _texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) and each for each in value)


def _whole(value: Any, least: int, most: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _parts(images: Tensor) -> Iterator[Tensor]:
    """All images, some at a time, each part contiguous."""
    size = max(1, AT_ONCE // max(1, images[:1].numel()))
    yield from (images[start : start + size].contiguous() for start in range(0, len(images), size))


def _short(split: Split) -> _Short:
    """Different for other images, as good as always: bits are summed modulo 2**32, as fast as they are read."""
    bits = sum(int(part.view(torch.int32).sum(dtype=torch.int32)) for part in _parts(split.images)) if len(split) else 0
    return bits, tuple(split.labels.flatten().tolist()), split.patients, split.sites
