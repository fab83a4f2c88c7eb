"""Splits by patient within each site."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbmed_datasets.splits import SPLITS, fold_of, gaps, split_by_patient
from robustbench_med.errors import DataError

FRACTIONS = (0.6, 0.2, 0.2)


def cohort(sites: dict[str, int], seed: int = 0) -> tuple[list[str], list[str], np.ndarray]:
    """Patients with 5 to 20 images each, half of them with a lesion."""
    rng = np.random.default_rng(seed)
    patients, where = [], []
    for site, count in sites.items():
        for number in range(count):
            images = int(rng.integers(5, 21))
            patients += [f"{site}-{number}"] * images
            where += [site] * images
    return patients, where, np.arange(len(patients)) % 2


def test_no_patient_is_in_two_splits_and_every_site_has_all_three() -> None:
    patients, sites, labels = cohort({"a": 3, "b": 5, "c": 40})
    splits = split_by_patient(patients, sites, labels, FRACTIONS, seed=0)
    assert len({(patient, split) for patient, split in zip(patients, splits, strict=True)}) == 48
    assert {*zip(sites, splits.tolist(), strict=True)} == {(site, split) for site in "abc" for split in SPLITS}


def test_shares_hold_in_each_site_and_class() -> None:
    patients, sites, labels = cohort({"a": 60, "b": 60})
    splits = split_by_patient(patients, sites, labels, FRACTIONS, seed=0)
    for site in "ab":
        for label in (0, 1):
            chosen = splits[(np.array(sites) == site) & (labels == label)]
            shares = [np.mean(chosen == split) for split in SPLITS]
            assert shares == pytest.approx(FRACTIONS, abs=0.03)


def test_a_rare_class_of_single_images_reaches_every_split() -> None:
    labels = np.array([0] * 90 + [1] * 9)
    splits = split_by_patient([str(i) for i in range(99)], ["all"] * 99, labels, FRACTIONS, seed=3)
    assert [np.sum(splits[90:] == split) for split in SPLITS] == [5, 2, 2]


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 1], [1, 1, 1]])
def test_three_patients_fill_three_splits_whatever_their_classes(labels: list[int]) -> None:
    for seed in range(10):
        splits = split_by_patient(["a", "b", "c"], ["x"] * 3, np.array(labels), FRACTIONS, seed)
        assert sorted(splits) == sorted(SPLITS)


def test_a_huge_group_is_assigned_to_training() -> None:
    patients = ["huge"] * 50 + [str(i) for i in range(50)]
    splits = split_by_patient(patients, ["all"] * 100, np.zeros(100, dtype=np.int64), FRACTIONS, seed=1)
    assert set(splits[:50].tolist()) == {"train"}
    assert [np.sum(splits == split) for split in SPLITS] == [60, 20, 20]


def test_same_seed_same_split_whatever_the_order_of_the_images() -> None:
    patients, sites, labels = cohort({"a": 20, "b": 9})
    once = split_by_patient(patients, sites, labels, FRACTIONS, seed=0)
    order = np.random.default_rng(0).permutation(len(patients))
    again = split_by_patient([patients[i] for i in order], [sites[i] for i in order], labels[order], FRACTIONS, seed=0)
    np.testing.assert_array_equal(once[order], again)
    assert (once != split_by_patient(patients, sites, labels, FRACTIONS, seed=1)).any()


def test_two_patients_cannot_be_split() -> None:
    with pytest.raises(DataError, match="site 'tiny' has 2"):
        split_by_patient(["p", "q"], ["tiny"] * 2, np.array([0, 1]), FRACTIONS, seed=0)


@settings(max_examples=25, deadline=None)
@given(
    held=st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), min_size=1),
    folds=st.integers(3, 7),
    classes=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_over_all_folds_every_patient_is_tested_once(held: dict[str, int], folds: int, classes: int, seed: int) -> None:
    patients, sites, labels = cohort({site: folds + more for site, more in held.items()}, seed)
    labels = np.arange(len(labels)) % classes
    tested: list[str] = []
    for fold in range(folds):
        splits = fold_of(fold, folds, patients, sites, labels, 0.2, seed)
        parts = [{p for p, split in zip(patients, splits, strict=True) if split == name} for name in SPLITS]
        assert sum(map(len, parts)) == len(set(patients))  # no patient is in two splits
        assert {*zip(sites, splits.tolist(), strict=True)} == {(site, split) for site in held for split in SPLITS}
        tested += parts[2]
    assert sorted(tested) == sorted(set(patients))


def test_folds_have_equal_shares_and_do_not_depend_on_the_order_of_the_images() -> None:
    patients, sites, labels = cohort({"a": 60, "b": 60})
    order = np.random.default_rng(0).permutation(len(patients))
    moved = [patients[i] for i in order], [sites[i] for i in order], labels[order]
    for fold in range(5):
        once = fold_of(fold, 5, patients, sites, labels, 0.2, 0)
        assert [np.mean(once == split) for split in SPLITS] == pytest.approx(FRACTIONS, abs=0.03)
        np.testing.assert_array_equal(once[order], fold_of(fold, 5, *moved, 0.2, 0))
    assert (once != fold_of(4, 5, patients, sites, labels, 0.2, 1)).any()


def test_a_site_with_fewer_patients_than_folds_is_named() -> None:
    patients, sites, labels = cohort({"a": 9, "b": 4, "c": 2})
    with pytest.raises(DataError, match=r"folds=5 needs 5 .*'b' has 4, site 'c' has 2 .*min_patients=5"):
        fold_of(0, 5, patients, sites, labels, 0.2, 0)


def test_gaps_name_site_class_and_split() -> None:
    splits = np.array(["train", "train", "calibration", "calibration", "test"])
    lines = gaps(splits, ["a"] * 5, np.array([0, 1, 0, 1, 0]), ("no", "yes"))
    assert lines == ["site a has no image of class 'yes' in test"]
