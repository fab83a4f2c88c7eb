"""Splits by patient within each site.

The order is by hashes of (seed, patient), not by a random generator: adding patients does not change the order of the
others, and no library version can change it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import robustbench_med as rbmed
from robustbench_med.errors import DataError

SPLITS = ("train", "calibration", "test")


def _class_counts(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Images per group and class, (groups, classes)."""
    counts = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(counts, (groups, labels), 1)
    return counts


def split_by_patient(
    patients: Sequence[str],
    sites: Sequence[str],
    labels: NDArray[np.int64],
    fractions: tuple[float, float, float],
    seed: int,
) -> NDArray[np.str_]:
    """Assign every image to a split so that no patient of a site is in two.

    Within each site, patients are assigned one by one (seeded order, large ones first) to the split with the lowest
    share of its target in the patient's classes. So each split gets at least one patient, and its share of each class
    is exact to within about one patient.

    Args:
        patients: (N,) patient or group ids.
        sites: (N,) site ids.
        labels: int64 (N,).
        fractions: shares of train, calibration and test; each > 0.
        seed: another seed, another split.

    Returns:
        (N,) array of ``train``, ``calibration`` or ``test``.

    Raises:
        DataError: a site has fewer than three patients.
    """
    names = np.asarray(SPLITS)
    site_of, who = np.asarray(sites), np.asarray(patients)
    result = np.empty(len(labels), dtype=names.dtype)
    for site in np.unique(site_of):
        rows = np.flatnonzero(site_of == site)
        ids, inverse = np.unique(who[rows], return_inverse=True)
        if len(ids) < len(SPLITS):
            raise DataError(f"site {str(site)!r} has {len(ids)} patient(s) or image groups; the splits need at least 3")
        counts = _class_counts(inverse, labels[rows])
        targets = np.maximum(np.outer(fractions, counts.sum(axis=0)), 1e-9)
        # Within a power of two the order is random; a much larger patient assigned last would exceed its split's
        # target.
        size = np.floor(np.log2(counts.sum(axis=1)))
        order = sorted(range(len(ids)), key=lambda i: (-size[i], rbmed.seed_of(seed, "split", site, ids[i])))
        filled = np.zeros_like(targets)
        chosen = np.empty(len(ids), dtype=np.int64)
        for i in order:
            fullness = filled / targets
            # The sum only breaks ties, in favour of a split that is still empty, so that none stays empty.
            chosen[i] = np.argmin(fullness @ counts[i] + 1e-6 * fullness.sum(axis=1))
            filled[chosen[i]] += counts[i]
        result[rows] = names[chosen[inverse]]
    return result


def gaps(
    splits: NDArray[np.str_], sites: Sequence[str], labels: NDArray[np.int64], classes: Sequence[str]
) -> list[str]:
    """One line per site whose splits do not all hold every class, saying what is missing where."""
    site_of, lines = np.asarray(sites), []
    for site in np.unique(site_of):
        missing = [
            f"{name!r} in {split}"
            for split in SPLITS
            for label, name in enumerate(classes)
            if not np.any((site_of == site) & (splits == split) & (labels == label))
        ]
        if missing:
            lines.append(f"site {site} has no image of class {', '.join(missing)}")
    return lines
