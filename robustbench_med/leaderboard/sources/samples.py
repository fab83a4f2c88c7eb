"""Per-image results of a run, ``OUT/samples/<cell>.parquet``, as they are published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustbench_med.errors import DataError, shortened
from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.leaderboard.sources.compact_labels import ABSTAINED, CLASSES, LETTERS
from robustbench_med.leaderboard.sources.image_results import ImageResults, lesions_of

if TYPE_CHECKING:
    import pandas as pd

#: What pandas and pyarrow raise on files of others, which may hold any columns of any types: all are one refusal.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, NotImplementedError)
#: Points of a ROC curve that are kept, at most.
POINTS = 64


def from_samples(path: Path) -> ImageResults:
    """The outcome of a cell from its per-image results, ``OUT/samples/<cell>.parquet``.

    Raises:
        DataError: they cannot be read, or there are more than 36 classes.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path).sort_values(["draw", "index"], kind="stable")
        draws = frame["draw"].nunique()
        index, labels = (_same(_numbers(frame, name, "iu"), draws, name) for name in ("index", "label"))
        if index[0] < 0 or (np.diff(index) <= 0).any():
            raise ValueError("an image is there twice in one draw, or has no row")
        first = frame.iloc[: len(index)]
        answers = {}
        for side in ("clean", "attacked"):
            told, held = (
                _numbers(frame, f"{side}_{what}", kind) for what, kind in (("prediction", "iu"), ("rejected", "b"))
            )
            answers[side] = np.where(held, ABSTAINED, told).reshape(draws, len(index))
        owners = [tuple(map(str, first[name])) if name in first else () for name in ("patient_code", "site")]
        names = [name for name in LESIONS if f"lesion_{name}" in first]
        lesions = {
            name: lesions_of(name, _numbers(first, f"lesion_{name}", "fiu").tolist(), len(index)) for name in names
        }
        scores = [_numbers(frame, f"{side}_score", "fiu") for side in ("clean", "attacked")]
    except UNREADABLE as error:
        raise DataError(f"per-image results {path} cannot be read: {shortened(str(error))[:200]}") from None
    if max(labels.max(), *(each.max() for each in answers.values())) >= len(CLASSES):
        raise DataError(f"per-image results {path} have more than {len(CLASSES)} classes")
    if labels.min() < 0 or min(each.min() for each in answers.values()) < min(LETTERS):
        raise DataError(f"per-image results {path} have a class below 0")
    small = {side: each.astype(np.int8) for side, each in answers.items()}
    patients, sites = owners
    return ImageResults(
        path.stem,
        tuple(index.tolist()),
        labels.astype(np.int8),
        small["clean"],
        small["attacked"],
        _roc(*scores),
        patients if all(patients) else (),
        sites,
        lesions,
    )


def _numbers(frame: pd.DataFrame, name: str, kinds: str) -> npt.NDArray[Any]:
    """A column whose values are all of a kind: whole numbers, truth values, or any numbers."""
    found: npt.NDArray[Any] = frame[name].to_numpy()
    if found.dtype.kind not in kinds:
        raise ValueError(f"{name} holds {found.dtype} values")
    return found


def _same(values: npt.NDArray[Any], draws: int, name: str) -> npt.NDArray[Any]:
    """(N,): the values of the first draw, which are those of every draw."""
    found = values.reshape(draws, -1)
    if not found.size or (found != found[0]).any():
        raise ValueError(f"{name} differs between draws, or there are no images")
    return np.asarray(found[0])


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
