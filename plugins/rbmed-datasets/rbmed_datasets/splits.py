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
    """Images per group and class, (groups, classes); of findings (N, K) with a last column of those without any."""
    if labels.ndim == 2:
        held = np.column_stack([labels, ~labels.any(axis=1)])
        counts = np.zeros((groups.max() + 1, held.shape[1]))
        np.add.at(counts, groups, held)
        return counts
    counts = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(counts, (groups, labels), 1)
    return counts


def split_by_patient(
    patients: Sequence[str] | NDArray[np.str_],
    sites: Sequence[str] | NDArray[np.str_],
    labels: NDArray[np.int64],
    fractions: Sequence[float],
    seed: int,
    names: Sequence[str] = SPLITS,
) -> NDArray[np.str_]:
    """Assign every image to a split so that no patient is in two.

    Within each site, patients are assigned one by one (seeded order, large ones first) to the split with the lowest
    share of its target in the patient's classes. So each split gets at least one patient, and its share of each class
    is exact to within about one patient. A patient of several sites is in one split at all of them. Among several
    sites, one with fewer patients than splits fills the first splits only.

    Args:
        patients: (N,) patient or group ids.
        sites: (N,) site ids.
        labels: int64 (N,).
        fractions: shares of the splits; each > 0.
        seed: another seed, another split.
        names: of the splits.

    Returns:
        (N,) array of names.

    Raises:
        DataError: the only site has fewer patients than there are splits.
    """
    site_of, who = np.asarray(sites), np.asarray(patients)
    everyone, person = np.unique(who, return_inverse=True)
    split_of = np.full(len(everyone), -1)
    each = np.unique(site_of)
    for site in each:
        rows = np.flatnonzero(site_of == site)
        ids, inverse = np.unique(who[rows], return_inverse=True)
        if len(ids) < len(names) and len(each) == 1:
            raise DataError(
                f"site {str(site)!r} has {len(ids)} patient(s) or image groups; the splits need at least {len(names)}"
            )
        counts = _class_counts(inverse, labels[rows])
        targets = np.maximum(np.outer(fractions, counts.sum(axis=0)), 1e-9)
        at = np.searchsorted(everyone, ids)
        filled = np.zeros_like(targets)
        known = split_of[at] >= 0  # patients of an earlier site
        np.add.at(filled, split_of[at][known], counts[known])
        # Random within a power of two; a much larger patient assigned last would exceed its split's target.
        size = np.floor(np.log2(counts.sum(axis=1)))
        order = sorted(
            np.flatnonzero(~known).tolist(), key=lambda i: (-size[i], rbmed.seed_of(seed, "split", site, ids[i]))
        )
        for i in order:
            fullness = filled / targets
            # The sum only breaks ties, in favour of a split that is still empty, so that none stays empty.
            split = int(np.argmin(fullness @ counts[i] + 1e-6 * fullness.sum(axis=1)))
            if len(ids) < len(names):  # the first patient is for training, the second for the test
                split = len(names) - 1 if filled[0].any() else 0
            split_of[at[i]] = split
            filled[split] += counts[i]
    return np.asarray(np.asarray(names)[split_of[person]])


def fold_of(
    fold: int,
    folds: int,
    patients: Sequence[str],
    sites: Sequence[str],
    labels: NDArray[np.int64],
    calibration: float,
    seed: int,
) -> NDArray[np.str_]:
    """One fold of a cross-validation: its patients are the test split, calibration is taken from the others.

    The patients of each site are divided over the folds as `split_by_patient` divides them over splits, so that over
    all folds each is tested once, and every fold has patients of every site.

    Args:
        fold: which, from 0.
        folds: how many; 3 or more, so that at every site patients for training and calibration are left.
        patients: (N,) patient or group ids.
        sites: (N,) site ids.
        labels: int64 (N,).
        calibration: share of all images.
        seed: another seed, another division.

    Raises:
        DataError: a site has fewer patients than folds.
    """
    held: dict[str, set[str]] = {}
    for patient, site in zip(patients, sites, strict=True):
        held.setdefault(site, set()).add(patient)
    if small := [f"site {site!r} has {len(own)}" for site, own in sorted(held.items()) if len(own) < folds]:
        raise DataError(
            f"folds={folds} needs {folds} patients or image groups at every site; {', '.join(small)} "
            f"(fewer folds, or min_patients={folds}, which leaves such sites out)"
        )
    names = [str(number) for number in range(folds)]
    tested_in = split_by_patient(patients, sites, labels, [1 / folds] * folds, seed, names)
    result = np.full(len(labels), "test", dtype=np.asarray(SPLITS).dtype)
    rest = np.flatnonzero(tested_in != names[fold])
    share, who, where = calibration / (1 - 1 / folds), np.asarray(patients)[rest], np.asarray(sites)[rest]
    result[rest] = split_by_patient(who, where, labels[rest], (1 - share, share), seed, SPLITS[:2])
    return result


def official(
    given: NDArray[np.str_],
    patients: Sequence[str],
    units: Sequence[str],
    sites: Sequence[str],
    labels: NDArray[np.int64],
    calibration: float,
    seed: int,
) -> NDArray[np.str_]:
    """The split that comes with a data set; calibration images are taken from training where it has none.

    Args:
        given: (N,) names from `SPLITS`.
        patients: (N,) patient or group ids.
        units: (N,) ids of what stays in one split.
        sites: (N,) site ids.
        labels: int64 (N,).
        calibration: share of the training images to take.
        seed: another seed, another choice.

    Raises:
        DataError: it has no training or no test images, or a patient is in two of its splits.
    """
    for name in ("train", "test"):
        if not (given == name).any():
            raise DataError(f"the official split has no {name} images; use split=patient")
    homes: dict[str, str] = {}
    for patient, split in zip(patients, given.tolist(), strict=True):
        if homes.setdefault(patient, split) != split:
            raise DataError(
                f"patient {patient!r} is in {homes[patient]} and in {split} of the official split; split by patient "
                "instead (imagefolder: split=patient and no test_folder, table: split=-)"
            )
    result = given.copy()
    if not (given == "calibration").any():
        rows = np.flatnonzero(given == "train")
        result = result.astype(np.asarray(SPLITS).dtype)
        who, where, shares = np.asarray(units)[rows], np.asarray(sites)[rows], (1 - calibration, calibration)
        result[rows] = split_by_patient(who, where, labels[rows], shares, seed, SPLITS[:2])
    return result


def gaps(
    splits: NDArray[np.str_], sites: Sequence[str], labels: NDArray[np.int64], classes: Sequence[str]
) -> list[str]:
    """One line per site whose splits do not all hold every class, saying what is missing where."""
    site_of, lines, several = np.asarray(sites), [], labels.ndim == 2
    for site in np.unique(site_of):
        missing = [
            f"{name!r} in {split}"
            for split in SPLITS
            for label, name in enumerate(classes)
            if not np.any(
                (site_of == site) & (splits == split) & (labels[:, label] > 0 if several else labels == label)
            )
        ]
        if missing:
            lines.append(f"site {site} has no image of class {', '.join(missing)}")
    return lines
