"""Do the certified radii of a cell's images give the certificates of its record?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from robustbench_med.certification.bounds import lower_bound, radius
from robustbench_med.errors import DataError, shortened
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.sources.samples import UNREADABLE

if TYPE_CHECKING:
    import pandas as pd

    from robustbench_med.records.record import Record
    from robustbench_med.records.sections.certified import CertifiedSection

#: Rounding of radii, which follow from bounds in double precision.
CLOSE = 1e-6


def check_radii(record: Record, path: Path) -> None:
    """Raise `DataError` unless the certified radii in per-image results give the record's certificates.

    The radii are not published: this is where the results of a run are at hand.
    """
    import pandas as pd

    how = record.certified
    if how is None:
        return
    try:
        frame = pd.read_parquet(path).sort_values("index")
        found = next(_other(record, how, frame), None)
    except UNREADABLE as error:
        raise DataError(f"certificates in {path} cannot be read: {shortened(str(error))[:200]}") from None
    if found is not None:
        raise DataError(f"{path}: {found} (cell {record.cell_id})")


def _other(record: Record, how: CertifiedSection, frame: pd.DataFrame) -> Iterator[str]:
    """What does not follow from the images, a line each."""
    radii, bounds = frame["certified_radius"].to_numpy(float), frame["certified_p_lower"].to_numpy(float)
    if how.n <= 10**6:
        every = lower_bound(np.arange(how.n + 1), how.n, how.alpha)
        near = every[np.abs(every[None] - bounds[:, None]).argmin(1)]
        if not np.allclose(near, bounds, rtol=CLOSE, atol=1e-9):
            yield f"a bound of a probability is that of no count of {how.n} samples at alpha {how.alpha:g}"
    if not np.allclose(np.where(radii > 0, radius(bounds, how.sigma), 0.0), radii, rtol=CLOSE, atol=1e-9):
        yield f"a radius does not follow from its bound and noise of {how.sigma:g}"
    answered, labels = frame["clean_prediction"].to_numpy(), frame["label"].to_numpy()
    right = (answered == labels) & (radii > 0)
    if not np.array_equal(frame["clean_rejected"].to_numpy(bool), radii == 0):
        yield "images without a certificate are not those that the system abstains on"
    told = frame["attacked_prediction"].to_numpy()
    broken = ~((told == labels) | frame["attacked_rejected"].to_numpy(bool))
    inside = right & broken & (radii >= frame["distance"].to_numpy(float))
    yield from _figures(record, how, radii, right, frame["index"][inside].tolist())


def _figures(
    record: Record,
    how: CertifiedSection,
    radii: npt.NDArray[np.float64],
    right: npt.NDArray[np.bool_],
    contradicted: list[int],
) -> Iterator[str]:
    n = max(len(radii), 1)
    shares = [float((right & (radii >= point.radius * (1 - 1e-9))).sum()) / n for point in how.curve]
    pairs = {
        "abstained": (how.abstained, int((radii == 0).sum())),
        "median": (how.median, float(np.sort(radii)[(len(radii) - 1) // 2]) if len(radii) else 0.0),
        "certified_accuracy": (
            record.metrics.get("certified_accuracy"),
            float((right & (radii >= record.threat.eps)).sum()) / n,
        ),
    }
    for name, (said, true) in pairs.items():
        if said is None or abs(said - true) > CLOSE:
            yield f"the radii of {plural(len(radii), 'image')} give {name} {true:.6g}, and the record says {said}"
    if any(abs(point.accuracy - share) > CLOSE for point, share in zip(how.curve, shares, strict=True)):
        yield "the curve of certified accuracy does not follow from the radii of the images"
    if sorted(how.contradicted) != contradicted:
        were = plural(len(contradicted), "image was broken inside its", "images were broken inside their")
        yield f"{were} radius, and the record says {len(how.contradicted)}"
