"""Predictions by label, counted from the results of each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ConfusionCell:
    """A field of a confusion matrix: images (mean over draws and seeds), their share of the truth, whether right."""

    text: str
    share: float
    right: bool


@dataclass(frozen=True)
class Confusion:
    """Answers by truth, ``name`` says of which images."""

    name: str
    answers: Sequence[str]
    rows: Sequence[tuple[str, Sequence[ConfusionCell]]]


def confusion(name: str, answered: Iterable[tuple[Any, Any]], names: list[str]) -> Confusion:
    """From pairs of labels (N,) and answers (draws, N), -1 abstained, -2 not finite; a mean over the pairs."""
    pairs = list(answered)
    classes = max(len(names), *(int(max(labels.max(), answers.max())) + 1 for labels, answers in pairs))
    wide = classes + 2
    summed = np.zeros(classes * wide)
    for labels, answers in pairs:
        # Negative codes count from the end of a row: the last two columns.
        codes = labels.astype(np.int64) * wide + answers.astype(np.int64) % wide
        summed += np.bincount(codes.ravel(), minlength=classes * wide) / len(answers) / len(pairs)
    total = summed.reshape(classes, wide)
    names = [*names, *(f"class {at}" for at in range(len(names), classes))]
    # The last two columns, which negative codes fill, are shown where they hold anything.
    total[:, -2:], others = total[:, :-3:-1].copy(), ("abstained", "not finite")
    columns = [*range(classes), *(classes + at for at in range(2) if total[:, classes + at].any())]
    rows = []
    for number, counts in enumerate(total.tolist()):
        images = float(total[number].sum()) or 1.0
        cells = [
            ConfusionCell(f"{counts[at]:.1f}".removesuffix(".0"), counts[at] / images, at == number) for at in columns
        ]
        rows.append((names[number], cells))
    return Confusion(name, [[*names, *others][at] for at in columns], rows)
