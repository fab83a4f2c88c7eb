"""Per-image results as Parquet, so that any number in a record can be recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_med.errors import StoreError
from robustbench_med.files.atomic import replacing
from robustbench_med.interfaces.results import Outcome, Predictions

if TYPE_CHECKING:
    import pandas as pd


def to_frame(outcome: Outcome) -> pd.DataFrame:
    """One row per image and noise draw.

    Columns: ``index`` (row in the test split), ``patient``, ``patient_code`` (as it may be published; empty where
    patients are not known), ``site``, ``label``, ``draw``, ``distance``, ``gradients``, ``queries``, ``broken_by`` (the
    ladder's step after which no draw withstood, else empty), and with the prefixes ``clean_`` and ``attacked_`` (and
    those of further scorings that were requested, such as ``attacked_8bit_``): ``prediction``, ``flagged``,
    ``rejected``, ``score``, ``changed``, ``purified_rmse``, and of a multi-label task ``logit_0``, ``logit_1``, ... of
    the findings, whose sets are ``label`` and ``prediction``, with finding k as bit k. If the data set measures its
    lesions, ``lesion_radius`` (mm) and ``lesion_contrast`` (of [0, 1]), NaN without a lesion. With certificates,
    ``certified_radius`` (L2, 0 where nothing is certified), ``certified_p_lower``, ``certified_held`` (right, and
    certified at eps) and ``certified_contradicted``.
    """
    import pandas as pd  # most of a second, after the first cell

    draws, n = outcome.clean.predictions.shape

    def tiled(values: Sequence[object]) -> list[object]:
        return list(values) * draws

    columns: dict[str, object] = {
        "index": tiled(outcome.index.tolist()),
        "patient": tiled(outcome.patients),
        "patient_code": tiled(outcome.codes or [""] * n),
        "site": tiled(outcome.sites),
        "label": tiled(outcome.labels.tolist()),
        "draw": [draw for draw in range(draws) for _ in range(n)],
        "distance": tiled(outcome.distances.tolist()),
        "gradients": tiled(outcome.gradients.tolist()),
        "queries": tiled(outcome.queries.tolist()),
        "broken_by": tiled(_broken_by(outcome)),
    }
    columns |= {f"lesion_{name}": tiled(values.tolist()) for name, values in outcome.lesions.items()}
    columns |= {f"certified_{name}": tiled(values.tolist()) for name, values in outcome.certified.items()}
    for prefix, verdicts in {"clean": outcome.clean, "attacked": outcome.attacked, **outcome.also}.items():
        columns |= _columns(prefix, verdicts, draws)
    return pd.DataFrame(columns)


def _broken_by(outcome: Outcome) -> list[str]:
    """Per image, the first rung after which it was broken; empty for a plain cell, where the predictions say it."""
    names = [""] * len(outcome.labels)
    if len(outcome.rungs) > 1:
        for rung in reversed(outcome.rungs):
            for row in (rung.attacked & (rung.robust == 0)).nonzero().flatten().tolist():
                names[row] = rung.name
    return names


def _columns(prefix: str, verdicts: Predictions, draws: int) -> dict[str, object]:
    """Columns of predictions; those of fewer draws, as with a fixed noise, are the same in every draw."""
    values = verdicts.tensors
    logits = values.pop("logits", None)
    names = {"predictions": "prediction", "scores": "score"}
    columns: dict[str, object] = {
        f"{prefix}_{names.get(name, name)}": each.expand(draws, each.shape[1]).flatten().numpy()
        for name, each in values.items()
    }
    if logits is not None:
        every = logits.expand(draws, *logits.shape[1:]).flatten(0, 1).numpy()
        columns |= {f"{prefix}_logit_{number}": every[:, number] for number in range(every.shape[1])}
    return columns


def write(outcome: Outcome, path: Path) -> None:
    """Write the samples of one cell, whole or not at all.

    Raises:
        StoreError: they cannot be written, as where the disk is full, or their folder is a symbolic link.
    """
    if path.parent.is_symlink():
        # Whoever sent the folder would choose where we write.
        raise StoreError(f"{path.parent} is a symbolic link; results are written to real folders only, so remove it")
    with replacing(path) as draft:
        to_frame(outcome).to_parquet(draft, index=False)
