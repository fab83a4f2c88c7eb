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
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_med.errors import DataError
from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.leaderboard.sources.letters import (
    ABSTAINED,
    CLASSES,
    LETTERS,
    classes_of,
    owners_by_row,
    ranges,
    rows_by_owner,
    rows_of,
    text_of,
)

Shares = npt.NDArray[np.float64]
#: Points of a ROC curve that are kept, at most.
POINTS = 64


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
            found.append(f"{what}: {one.shape[0]} noise draws -> {two.shape[0]}")
        elif rows := int(np.atleast_2d(one != two).any(0).sum()):
            found.append(f"{what}: {rows} of {len(kept.index)} images differ")
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
        ValueError: it is none; the message says why.
    """
    facts = json.loads(line)
    if not isinstance(facts, dict):
        raise ValueError("not an object")
    try:
        cell_id, index = facts["cell_id"], rows_of(str(facts["index"]))
        labels = classes_of(facts["labels"], len(index))
        clean, attacked = (_draws(facts[name], len(index)) for name in ("clean", "attacked"))
        roc = tuple([(float(x), float(y)) for x, y in facts.get("roc", ())])
        patients, sites = (_owners(facts[name], index) if name in facts else () for name in ("patients", "sites"))
        lesions = {name: _lesions(name, values, len(index)) for name, values in facts.get("lesions", {}).items()}
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    if (labels < 0).any():
        raise ValueError("a label is no class")
    if not isinstance(cell_id, str) or not len(clean) or not len(attacked):
        raise ValueError("no cell, or no answers")
    return ImageResults(cell_id, index, labels, clean, attacked, roc, patients, sites, lesions)


def _draws(texts: Any, n: int) -> npt.NDArray[np.int8]:
    """Letters of several draws as classes, int8 (draws, N)."""
    draws = list(texts)
    if n and all(isinstance(draw, str) and len(draw) == n for draw in draws):
        return classes_of("".join(draws), n * len(draws)).reshape(len(draws), n)
    return np.array([classes_of(draw, n) for draw in draws], dtype=np.int8)


def _owners(facts: Any, index: tuple[int, ...]) -> tuple[str, ...]:
    """As `owners_by_row`; thousands of lines are of the same images."""
    if isinstance(facts, dict) and all(isinstance(text, str) for text in facts.values()):
        return _owners_of(tuple(facts.items()), index)
    return owners_by_row(facts, index)


@lru_cache(maxsize=16)
def _owners_of(facts: tuple[tuple[str, str], ...], index: tuple[int, ...]) -> tuple[str, ...]:
    return owners_by_row(dict(facts), index)


def from_samples(path: Path) -> ImageResults:
    """The outcome of a cell from its per-image results, ``OUT/samples/<cell>.parquet``.

    Raises:
        DataError: they cannot be read, or there are more than 36 classes.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path).sort_values(["draw", "index"], kind="stable")
        draws = frame["draw"].nunique()
        first = frame.iloc[: len(frame) // max(draws, 1)]
        index, labels = tuple(map(int, first["index"])), first["label"].to_numpy()
        answers = {}
        for side in ("clean", "attacked"):
            told = frame[f"{side}_prediction"].where(~frame[f"{side}_rejected"], ABSTAINED)
            answers[side] = told.to_numpy().reshape(draws, len(index))
        owners = [tuple(map(str, first[name])) if name in first else () for name in ("patient_code", "site")]
        lesions = {name: tuple(map(float, first[f"lesion_{name}"])) for name in LESIONS if f"lesion_{name}" in first}
        scores = [frame[f"{side}_score"].to_numpy() for side in ("clean", "attacked")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"per-image results {path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if max(labels.max(), *(each.max() for each in answers.values())) >= len(CLASSES):
        raise DataError(f"per-image results {path} have more than {len(CLASSES)} classes")
    if labels.min() < 0 or min(each.min() for each in answers.values()) < min(LETTERS):
        raise DataError(f"per-image results {path} have a class below 0")
    small = {side: each.astype(np.int8) for side, each in answers.items()}
    patients, sites = owners
    return ImageResults(
        path.stem,
        index,
        labels.astype(np.int8),
        small["clean"],
        small["attacked"],
        _roc(*scores),
        patients if all(patients) else (),
        sites,
        lesions,
    )


def read(path: Path) -> list[ImageResults]:
    """The outcomes of a file.

    Raises:
        DataError: it cannot be read, or a line is no outcome; file and line are named.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read the outcomes in {path}: {error.strerror or error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(parse(line))
            except ValueError as error:
                raise DataError(f"{path}: line {number} is no outcome: {str(error)[:200]}") from None
    return found


def _roc(clean: npt.NDArray[Any], attacked: npt.NDArray[Any]) -> tuple[tuple[float, float], ...]:
    """Corners of the ROC curve, thinned to `POINTS`."""
    if np.isnan(clean).any() or np.isnan(attacked).any():  # no detector
        return ()
    bounds = np.unique(np.concatenate([clean, attacked]))[::-1]
    false = (clean[None] > bounds[:, None]).mean(1)
    true = (attacked[None] > bounds[:, None]).mean(1)
    points = list(dict.fromkeys([*zip(false.tolist(), true.tolist(), strict=True), (1.0, 1.0)]))
    if len(points) <= POINTS:
        return tuple(points)
    keep = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
    return tuple(points[at] for at in keep)


def _lesions(name: str, values: Any, n: int) -> tuple[float, ...]:
    if name not in LESIONS:
        raise ValueError(f"lesions: {name!r} is no measurement; valid: {', '.join(LESIONS)}")
    found = tuple(math.nan if value is None else float(value) for value in values)
    if len(found) != n or any(value < 0 or math.isinf(value) for value in found):
        raise ValueError(f"lesions: {name} is not a number from 0 or null for each of {n} images")
    return found
