"""Sites that are kept out of training."""

from __future__ import annotations

import pytest
import torch
from helpers.patients import Toy, over_clients

from robustbench_med.datasets.partition import without
from robustbench_med.errors import DataError


def test_an_unseen_site_keeps_its_test_images_only() -> None:
    toy = Toy()
    data = without(toy, ("hospital-1",))
    assert data.split("test").sites == toy.split("test").sites
    for name in ("train", "calibration"):
        before, after = toy.split(name), data.split(name)
        keep = torch.tensor([site != "hospital-1" for site in before.sites])
        assert set(after.sites) == {"hospital-0", "hospital-2"}
        assert torch.equal(after.images, before.images[keep])
    card = data.card()
    assert card.notes[-1] == "unseen: hospital-1 has no part in training and calibration, only in test"
    assert len({card.digest, without(toy, ("hospital-2",)).card().digest, toy.card().digest}) == 3
    both = without(toy, ("hospital-2", "hospital-1"))
    assert both.card().digest == without(toy, ("hospital-1", "hospital-2", "hospital-1")).card().digest
    assert set(both.split("train").sites) == {"hospital-0"}


def test_a_client_of_a_partition_can_be_unseen() -> None:
    data = without(over_clients(Toy(), "iid:clients=3"), ("client-2",))
    assert set(data.split("train").sites) == {"client-1", "client-3"}
    assert set(data.split("test").sites) == {"client-1", "client-2", "client-3"}


def test_an_unknown_site_cannot_be_unseen() -> None:
    with pytest.raises(DataError, match=r"no site 'hospital-9' \(--unseen-site\); valid: hospital-0, hospital-1"):
        without(Toy(), ("hospital-9",))
    with pytest.raises(DataError, match="leaves no site of data set 'toy' to train on"):
        without(Toy(), ("hospital-0", "hospital-1", "hospital-2"))
