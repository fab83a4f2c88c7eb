"""Per-image outcomes that are published with the records: who answered what, few bytes an image.

One JSON line a cell. ``index`` says which rows of the test split, ``0-319`` or ``1,7,10-12``; ``labels`` has a letter
for each image, ``clean`` and ``attacked`` one string for each noise draw: the class (0-9, then a-z), ``-`` where the
system abstained, or ``?`` where its answer was not finite. ``roc`` has points (false positives, true positives) of the
detector, thinned out. ``patients`` and ``sites`` say for each patient (hashed, `robustbench_med.datasets.test_split`)
and each client which rows are theirs. ``lesions`` has measurements of each image's lesion, null where there is none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_med.errors import DataError, shortened
from robustbench_med.files import jsonl
from robustbench_med.files.strict_json import size_of, strict_json
from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.sources.compact_labels import (
    ABSTAINED,
    classes_of,
    owners_by_row,
    ranges,
    rows_by_owner,
    rows_of,
    text_of,
)

Shares = npt.NDArray[np.float64]
#: Ids of cells, as in records.
_CELL = re.compile(r"[0-9a-z]{1,64}")
#: Keys of a line; those that came later may be missing.
_KINDS = {"cell_id": str, "index": str, "labels": str, "clean": list, "attacked": list}
_NEEDED = frozenset(_KINDS)
_KINDS |= {"roc": list, "patients": dict, "sites": dict, "lesions": dict}


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class ImageResults:
    """What became of each image of a cell.

    Attributes:
        cell_id: whose.
        index: rows of the test split, rising.
        labels: int (N,).
        clean, attacked: predictions, int (draws, N); -1 where the system abstained, -2 where the answer was not finite.
        roc: points of the detector's ROC curve, each (FPR, TPR); empty without a detector.
        patients, sites: (N,) hashed patient and client of each image; empty where they are not recorded.
        lesions: measurements of the lesions by their names in `robustbench_med.interfaces.lesions.LESIONS`, (N,) each,
            NaN without a lesion; empty where the data set has none.
    """

    cell_id: str
    index: tuple[int, ...]
    labels: npt.NDArray[np.int8]
    clean: npt.NDArray[np.int8]
    attacked: npt.NDArray[np.int8]
    roc: tuple[tuple[float, float], ...] = ()
    patients: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    lesions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @cached_property
    def correct(self) -> Shares:
        """(N,): share of draws on which the clean image is correct; an abstention does not count."""
        return np.asarray((self.clean == self.labels).mean(0))

    @cached_property
    def robust(self) -> Shares:
        """(N,): share of draws that are robust: correct or abstained."""
        return np.asarray(((self.attacked == self.labels) | (self.attacked == ABSTAINED)).mean(0))


def differences(kept: ImageResults, made: ImageResults) -> list[str]:
    """In what two results of one cell differ, a line each: rows, labels, answers, and how many images these are of."""
    if kept.index != made.index:
        return ["per-image results are of other images"]
    found = []
    for what in ("labels", "clean", "attacked"):
        one, two = getattr(kept, what), getattr(made, what)
        if one.shape != two.shape:
            found.append(f"{what}: {plural(one.shape[0], 'noise draw')} -> {two.shape[0]}")
        elif rows := int(np.atleast_2d(one != two).any(0).sum()):
            found.append(f"{what}: {rows} of {plural(len(kept.index), 'image')} differ")
    for what in ("patients", "sites"):  # older results lack them
        one, two = getattr(kept, what), getattr(made, what)
        if one and two and one != two:
            found.append(f"{what} of the images differ")
    for name in kept.lesions:
        values = made.lesions.get(name, ())
        if np.shape(values) != np.shape(kept.lesions[name]) or not np.allclose(
            values, kept.lesions[name], atol=1e-3, equal_nan=True
        ):
            found.append(f"{name} of the lesions differs")
    if np.shape(kept.roc) != np.shape(made.roc) or not np.allclose(kept.roc, made.roc, atol=1e-4):
        found.append("points of the ROC curve differ")
    return found


def dumped(outcome: ImageResults) -> str:
    """An outcome as one line of JSON."""
    facts: dict[str, Any] = {
        "cell_id": outcome.cell_id,
        "index": ranges(outcome.index),
        "labels": text_of(outcome.labels),
        "clean": [text_of(draw) for draw in outcome.clean],
        "attacked": [text_of(draw) for draw in outcome.attacked],
    }
    if outcome.roc:
        facts["roc"] = [[round(x, 4), round(y, 4)] for x, y in outcome.roc]
    for what in ("patients", "sites"):
        if owners := getattr(outcome, what):
            facts[what] = rows_by_owner(outcome.index, owners)
    if outcome.lesions:
        facts["lesions"] = {
            name: [None if math.isnan(value) else round(value, 3) for value in values]
            for name, values in outcome.lesions.items()
        }
    return json.dumps(facts, allow_nan=False)


def parse(line: str | bytes) -> ImageResults:
    """An outcome from one line of JSON.

    Raises:
        ValueError: it is none; the message, on one line, says why.
    """
    try:
        return _parsed(strict_json(line))
    except (TypeError, ValueError) as error:
        raise ValueError(shortened(str(error))) from None


def _parsed(facts: Any) -> ImageResults:
    if not isinstance(facts, dict):
        raise ValueError("not an object")
    for name in facts.keys() | _NEEDED:
        if name not in _KINDS:
            raise ValueError(f"{name!r} is no key; valid: {', '.join(_KINDS)}")
        if not isinstance(facts.get(name), _KINDS[name]):
            raise ValueError(f"{name} is missing, or of another type")
    if not _CELL.fullmatch(facts["cell_id"]):
        raise ValueError("cell_id is that of no cell")
    labels = classes_of(facts["labels"], len(facts["labels"]))
    index = rows_of(facts["index"], len(labels))
    if len(index) != len(labels) or (labels < 0).any():
        raise ValueError(f"{plural(len(labels), 'label')} of {plural(len(index), 'image')}, or a label is no class")
    clean, attacked = (_draws(facts[name], len(index)) for name in ("clean", "attacked"))
    roc = _rising([(numeric(x), numeric(y)) for x, y in facts.get("roc", ())])
    patients, sites = (_owners(facts[name], index) if name in facts else () for name in ("patients", "sites"))
    lesions = {name: lesions_of(name, values, len(index)) for name, values in facts.get("lesions", {}).items()}
    return ImageResults(facts["cell_id"], index, labels, clean, attacked, roc, patients, sites, lesions)


def numeric(value: Any) -> float:
    """A number of JSON, neither a truth value nor a text; raises `ValueError`."""
    if type(value) not in (int, float):
        raise ValueError(f"{value!r:.60} is no number")
    return float(value)


def _rising(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Points of a ROC curve, which neither falls nor leaves [0, 1]."""
    sides = list(zip(*points, strict=True))
    if any(not 0 <= share <= 1 for side in sides for share in side) or any(
        list(side) != sorted(side) for side in sides
    ):
        raise ValueError("roc: its points do not rise from 0 to 1")
    return tuple(points)


def _draws(draws: list[Any], n: int) -> npt.NDArray[np.int8]:
    """Letters of several draws as classes, int8 (draws, N)."""
    if not draws or not n or not all(isinstance(draw, str) and len(draw) == n for draw in draws):
        raise ValueError(f"answers are not texts of {n} letters")
    return classes_of("".join(draws), n * len(draws)).reshape(len(draws), n)


def _owners(facts: dict[str, Any], index: tuple[int, ...]) -> tuple[str, ...]:
    """As `owners_by_row`; thousands of lines are of the same images."""
    if not all(isinstance(text, str) for text in facts.values()):
        raise ValueError("rows of an owner are no text")
    return _owners_of(tuple(facts.items()), index)


@lru_cache(maxsize=16)
def _owners_of(facts: tuple[tuple[str, str], ...], index: tuple[int, ...]) -> tuple[str, ...]:
    return owners_by_row(dict(facts), index)


def read(path: Path) -> list[ImageResults]:
    """The outcomes of a file.

    Raises:
        DataError: it cannot be read, or a line is no outcome; file and line are named.
    """
    try:
        size_of(path)
        every = jsonl.content(path).split(b"\n")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the outcomes in {path}: {getattr(error, 'strerror', None) or error}") from None
    found = []
    for number, line in enumerate(every, 1):
        if line.strip():
            try:
                found.append(parse(line))
            except ValueError as error:
                raise DataError(f"{path}: line {number} is no outcome: {str(error)[:200]}") from None
    return found


def lesions_of(name: str, values: Any, n: int) -> tuple[float, ...]:
    """A measurement of each image's lesion, NaN without one; raises `ValueError` for what is none."""
    if name not in LESIONS:
        raise ValueError(f"lesions: {name!r} is no measurement; valid: {', '.join(LESIONS)}")
    found = tuple(math.nan if value is None else numeric(value) for value in values)
    if len(found) != n or any(value < 0 or math.isinf(value) for value in found):
        raise ValueError(f"lesions: {name} is not a number from 0 or null for each of {plural(n, 'image')}")
    return found
