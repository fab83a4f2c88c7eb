"""Sites that are kept out of training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.patients import Toy, over_clients

from robustbench_med.datasets.clients import without
from robustbench_med.errors import DataError
from robustbench_med.interfaces.dataset import SPLITS, DataCard, Fold, Split


def test_an_unseen_site_is_tested_on_all_its_patients() -> None:
    toy = Toy()
    data = without(toy, ("hospital-1",))
    splits = {name: toy.split(name) for name in SPLITS}
    everyone = {who for split in splits.values() for who in split.by_site()["hospital-1"].patients}
    test = data.split("test")
    assert set(test.by_site()["hospital-1"].patients) == everyone
    assert set(test.patients) - everyone == set(splits["test"].patients) - everyone
    assert torch.equal(test.images[: len(splits["test"])], splits["test"].images)
    assert test.masks is not None
    assert test.counterfactuals is not None
    assert torch.equal(test.lesions["size"], test.images.flatten(1).sum(1))
    assert len(test) == len(test.images) == len(test.sites) == len(test.masks) == len(test.counterfactuals)
    for name in ("train", "calibration"):
        before, after = toy.split(name), data.split(name)
        keep = torch.tensor([site != "hospital-1" for site in before.sites])
        assert set(after.sites) == {"hospital-0", "hospital-2"}
        assert torch.equal(after.images, before.images[keep])
    card = data.card()
    assert card.notes[-1] == "unseen: hospital-1 has no part in training and calibration; all its images are in test"
    assert len({card.digest, without(toy, ("hospital-2",)).card().digest, toy.card().digest}) == 3
    both = without(toy, ("hospital-2", "hospital-1"))
    assert both.card().digest == without(toy, ("hospital-1", "hospital-2", "hospital-1")).card().digest
    assert set(both.split("train").sites) == {"hospital-0"}


class Visits(Toy):
    """One patient has been at both sites; the second site has no test images of its own."""

    def split(self, name: str) -> Split:
        people = {"train": "aab", "calibration": "cd", "test": "ef"}[name]
        sites = {"train": "XYY", "calibration": "XY", "test": "XX"}[name]
        return Split(torch.zeros(len(people), 1, 2, 2), torch.zeros(len(people)).long(), tuple(people), tuple(sites))


def test_a_patient_who_was_trained_on_elsewhere_is_not_tested_as_unseen() -> None:
    test = without(Visits(), ("Y",)).split("test")
    assert list(zip(test.patients, test.sites, strict=True)) == [("e", "X"), ("f", "X"), ("b", "Y"), ("d", "Y")]


def test_a_client_of_a_partition_can_be_unseen() -> None:
    data = without(over_clients(Toy(), "iid:clients=3"), ("client-2",))
    assert set(data.split("train").sites) == {"client-1", "client-3"}
    assert set(data.split("test").sites) == {"client-1", "client-2", "client-3"}


class FirstFold(Toy):
    """Part of a cross-validation."""

    def card(self) -> DataCard:
        return replace(super().card(), fold=Fold(0, 3, "pool"))


def test_an_unseen_site_would_be_tested_in_every_fold_again() -> None:
    with pytest.raises(DataError, match="without folds"):
        without(FirstFold(), ("hospital-1",))


def test_an_unknown_site_cannot_be_unseen() -> None:
    with pytest.raises(DataError, match=r"no site 'hospital-9' \(--unseen-site\); valid: hospital-0, hospital-1"):
        without(Toy(), ("hospital-9",))
    with pytest.raises(DataError, match="leaves no site of data set 'toy' to train on"):
        without(Toy(), ("hospital-0", "hospital-1", "hospital-2"))
