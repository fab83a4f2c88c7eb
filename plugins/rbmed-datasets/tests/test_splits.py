"""Splits by patient within each site."""

from __future__ import annotations

import numpy as np
import pytest

from rbmed_datasets.splits import SPLITS, gaps, pseudo_sites, split_by_patient
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


def test_a_huge_group_goes_where_there_is_room() -> None:
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


def test_even_clients_get_equal_shares_of_each_class() -> None:
    labels = np.arange(300) % 3 % 2  # 200 and 100
    sites = np.array(pseudo_sites([str(i) for i in range(300)], labels, clients=10, alpha=None, seed=0))
    assert sorted(set(sites.tolist()))[0] == "client-01"
    counts = np.array([[np.sum((sites == s) & (labels == k)) for k in (0, 1)] for s in sorted(set(sites.tolist()))])
    assert counts.tolist() == [[20, 10]] * 10


def test_dirichlet_clients_are_skewed_repeatable_and_never_tiny() -> None:
    patients, labels = [str(i) for i in range(600)], np.arange(600) % 2
    sites = np.array(pseudo_sites(patients, labels, clients=10, alpha=0.4, seed=0))
    assert sites.tolist() == list(pseudo_sites(patients, labels, clients=10, alpha=0.4, seed=0))
    assert sites.tolist() != list(pseudo_sites(patients, labels, clients=10, alpha=0.4, seed=1))
    names, sizes = np.unique(sites, return_counts=True)
    assert len(names) == 10
    assert sizes.min() >= 10
    share = np.array([labels[sites == name].mean() for name in names])
    assert share.std() > 0.15
    even = np.array(pseudo_sites(patients, labels, clients=10, alpha=1e4, seed=0))
    assert np.array([labels[even == name].mean() for name in names]).std() < 0.05


def test_a_patient_stays_with_one_client() -> None:
    patients, _, labels = cohort({"a": 120})
    sites = pseudo_sites(patients, labels, clients=4, alpha=0.4, seed=0)
    assert len(set(zip(patients, sites, strict=True))) == 120


@pytest.mark.parametrize(("alpha", "clients"), [(None, 11), (0.4, 4)])
def test_too_many_clients_are_refused(alpha: float | None, clients: int) -> None:
    with pytest.raises(DataError, match=f"too few for {clients} clients"):
        pseudo_sites([str(i) for i in range(32)], np.arange(32) % 2, clients, alpha, seed=0)


def test_gaps_name_site_class_and_split() -> None:
    splits = np.array(["train", "train", "calibration", "calibration", "test"])
    lines = gaps(splits, ["a"] * 5, np.array([0, 1, 0, 1, 0]), ("no", "yes"))
    assert lines == ["site a has no image of class 'yes' in test"]
