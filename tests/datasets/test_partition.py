"""Patients partitioned over clients: known answers, and what must hold for every scheme and seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.patients import Toy, over_clients
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.datasets.clients import without
from robustbench_med.datasets.partition import SCHEMES
from robustbench_med.datasets.partition_report import holdings
from robustbench_med.errors import BadParameter, DataError
from robustbench_med.interfaces.dataset import SPLITS, DataCard, Dataset, Split

SCHEME_TEXTS = ("iid", "dirichlet", "quantity", "shards")


def patients(dataset: Dataset, name: str = "train") -> dict[str, Counter[int]]:
    """Patients by client and class."""
    split = dataset.split(name)
    people = dict(zip(split.patients, zip(split.sites, split.labels.tolist(), strict=True), strict=True))
    counts: dict[str, Counter[int]] = {client: Counter() for client in sorted(set(split.sites))}
    for client, label in people.values():
        counts[client][label] += 1
    return counts


def sizes(dataset: Dataset, name: str = "train") -> list[int]:
    return [counts.total() for counts in patients(dataset, name).values()]


def test_site_is_the_data_set_itself() -> None:
    toy = Toy()
    assert over_clients(toy, "site") is toy
    assert without(toy, ()) is toy


@pytest.mark.parametrize("text", SCHEME_TEXTS)
@pytest.mark.parametrize("name", SPLITS)
def test_only_the_sites_change(text: str, name: str) -> None:
    toy = Toy()
    before, after = toy.split(name), over_clients(toy, text).split(name)
    assert after.sites != before.sites
    assert set(after.sites) == {f"client-{number:02}" for number in range(1, 11)}
    for field in ("images", "labels", "masks", "counterfactuals"):
        assert torch.equal(getattr(after, field), getattr(before, field))
    assert after.patients == before.patients
    assert len(set(zip(after.patients, after.sites, strict=True))) == len(set(after.patients))  # no patient is divided


def test_a_split_is_loaded_once_and_the_card_loads_none() -> None:
    toy = Toy()
    data = over_clients(toy, "dirichlet")
    data.card()
    assert toy.loaded == []
    data.split("test")
    assert toy.loaded == ["test"]


def test_iid_gives_every_client_the_same() -> None:
    assert list(patients(over_clients(Toy(50, 25), "iid:clients=5")).values()) == [Counter({0: 40, 1: 20})] * 5


@pytest.mark.parametrize("counts", [(5, 5, 5, 5), (7, 6, 4), (19,), (1, 1, 1, 1, 1, 1, 1, 1, 1, 1)])
def test_iid_sizes_differ_by_one_at_most_where_nothing_divides_evenly(counts: tuple[int, ...]) -> None:
    found = sizes(over_clients(Toy(*counts, splits=(1, 1, 1)), "iid:clients=10"))
    assert len(found) == 10
    assert max(found) - min(found) <= 1


@pytest.mark.parametrize("per_client", [1, 2, 3])
def test_shards_give_a_client_so_many_labels_at_most(per_client: int) -> None:
    data = over_clients(Toy(*[6] * 10), f"shards:clients=10,per_client={per_client}")
    for name in SPLITS:
        found = patients(data, name)
        assert max(len(counts) for counts in found.values()) <= per_client
        assert len(set(sizes(data, name))) == 1
        assert sum(found.values(), Counter()) == patients(over_clients(data, "iid:clients=1"), name)["client-1"]


def test_one_shard_each_of_as_many_clients_as_classes_is_a_class_each() -> None:
    found = patients(over_clients(Toy(10, 20, 30), "shards:clients=3,per_client=1"))
    assert sorted(found.values(), key=max) == [Counter({0: 40}), Counter({1: 80}), Counter({2: 120})]


def test_quantity_changes_sizes_and_keeps_labels() -> None:
    found = patients(over_clients(Toy(400, 200), "quantity:alpha=1,clients=4,least=0"))
    shares = [counts[0] / counts.total() for counts in found.values()]
    assert shares == pytest.approx([2 / 3] * 4, abs=0.01)
    counts = [counts.total() for counts in found.values()]
    assert max(counts) > 3 * min(counts)


def test_a_large_alpha_is_iid_and_a_small_one_gives_each_class_to_one_client() -> None:
    toy = Toy(100, 100, 100)
    assert holdings(over_clients(toy, "dirichlet:clients=5,alpha=1e6")).skew() < 0.02
    assert sizes(over_clients(toy, "quantity:clients=5,alpha=1e6")) == pytest.approx([240] * 5, abs=5)
    for seed in range(5):
        found = patients(over_clients(toy, f"dirichlet:clients=5,alpha=0.001,least=0,seed={seed}"))
        largest = [max(counts[label] for counts in found.values()) for label in range(3)]
        assert min(largest) >= 396  # all but the four that keep no client empty


@pytest.mark.parametrize("name", ["dirichlet", "quantity"])
def test_no_client_is_too_small_to_be_judged(name: str) -> None:
    toy = Toy(500, 500, splits=(1, 1, 1))
    for seed in range(8):
        assert min(sizes(over_clients(toy, f"{name}:seed={seed}"))) >= 0.25 * 100 - 1
    assert min(min(sizes(over_clients(toy, f"{name}:seed={seed},least=0"))) for seed in range(8)) < 10


def test_a_partition_that_cannot_be_drawn_says_what_to_change() -> None:
    with pytest.raises(BadParameter, match=r"least=0\.9 .* use a larger alpha, fewer clients or a smaller least"):
        over_clients(Toy(), "dirichlet:alpha=0.01,least=0.9").split("train")


def test_dirichlet_shares_are_distributed_as_they_should_be() -> None:
    """A share among n clients is Beta(a, (n - 1) a): mean 1 / n, variance (n - 1) / n^2 / (n a + 1)."""
    drawn = SCHEMES["dirichlet"](clients=5, alpha=0.4, least=0).shares(20_000, np.random.RandomState(0))
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / 5, atol=0.01)
    np.testing.assert_allclose(drawn.var(axis=0), 4 / 25 / 3, rtol=0.04)


@pytest.mark.parametrize("text", ["dirichlet:alpha=0.4,clients=4", "shards:clients=4", "quantity:clients=4,alpha=0.4"])
def test_a_client_has_the_same_labels_in_all_splits(text: str) -> None:
    held = holdings(over_clients(Toy(300, 300, 300), text))
    assert held.images[0].sum(axis=1).min() < 0.6 * held.images[0].sum(axis=1).max() or text.startswith("shards")
    shares = held.patients / held.patients.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares[1:], shares[[0, 0]], atol=0.005)
    for at in (1, 2):  # patients have 1 to 3 images, hence the tolerance
        by_class = held.images[at] / held.images[at].sum()
        np.testing.assert_allclose(by_class, held.images[0] / held.images[0].sum(), atol=0.02)


def test_a_patient_counts_as_of_its_commonest_class() -> None:
    class Mixed(Toy):
        def split(self, name: str) -> Split:
            labels = torch.tensor([0, 0, 1] * 10 + [1, 0, 1] * 10)
            people = tuple(f"p{row // 3}" for row in range(60))
            return Split(torch.zeros(60, 1, 2, 2), labels, people, ("x",) * 60)

    split = over_clients(Mixed(), "shards:clients=2,per_client=1").split("train")
    (one,) = {split.sites[row] for row in range(30)}
    (other,) = {split.sites[row] for row in range(30, 60)}
    assert one != other


@pytest.mark.parametrize(
    "text", ["dirichlet:alpha=0.001,least=0", "quantity:alpha=0.001,least=0", "shards:per_client=1", "iid"]
)
def test_no_client_is_empty_even_with_as_many_patients_as_clients(text: str) -> None:
    assert sizes(over_clients(Toy(3, 7, splits=(1, 1, 1)), text)) == [1] * 10


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any),
    name=st.sampled_from(SCHEME_TEXTS),
    clients=st.integers(1, 12),
    seed=st.integers(0, 5),
)
def test_every_partition_deals_everyone_once(counts: list[int], name: str, clients: int, seed: int) -> None:
    toy = Toy(*counts, splits=(2, 1, 1))
    data = over_clients(toy, f"{name}:clients={clients},seed={seed}")
    for split in SPLITS[:2]:
        if sum(counts) * toy.splits[split] < clients:
            with pytest.raises(DataError, match=f"{clients} clients are too many for the .* patients? in {split}"):
                data.split(split)
            continue
        found = patients(data, split)
        assert len(found) == clients
        assert all(counts.total() for counts in found.values())
        whole = Counter({label: count * toy.splits[split] for label, count in enumerate(counts) if count})
        assert sum(found.values(), Counter()) == whole


def test_the_order_of_the_images_does_not_matter() -> None:
    class Reversed(Toy):
        def split(self, name: str) -> Split:
            split = super().split(name)
            return split.select(torch.arange(len(split)).flip(0))

    sites = over_clients(Toy(), "dirichlet").split("train").sites
    assert over_clients(Reversed(), "dirichlet").split("train").sites == sites[::-1]


@pytest.mark.parametrize(
    ("text", "clients"),
    [
        ("iid:clients=4", "221131412423124443133432"),
        ("dirichlet:clients=4", "321131312434233444143434"),
        ("dirichlet:clients=4,seed=1", "112111314144431124141323"),
        ("quantity:clients=4", "431241423434234444144444"),
        ("shards:clients=4", "221131312424123434143432"),
    ],
)
def test_another_process_deals_alike(text: str, clients: str) -> None:
    """Recorded in another process; whoever changes it changes `robustbench_med.datasets.partition.REVISION` too."""

    class Plain(Toy):
        def split(self, name: str) -> Split:
            people = tuple(f"{name}-{row}" for row in range(24))
            return Split(torch.zeros(24, 1, 2, 2), torch.arange(24) % 2, people, ("x",) * 24)

    sites = over_clients(Plain(), text).split("train").sites
    assert "".join(site.removeprefix("client-") for site in sites) == clients


def test_the_digest_follows_every_parameter_and_nothing_else() -> None:
    texts = [
        "iid",
        "iid:clients=9",
        "iid:seed=1",
        "dirichlet",
        "dirichlet:alpha=0.5",
        "dirichlet:seed=1",
        "dirichlet:clients=9",
        "quantity",
        "shards",
        "shards:per_client=3",
    ]
    digests = {text: over_clients(Toy(), text).card().digest for text in texts}
    assert len({*digests.values(), "toy"}) == len(texts) + 1
    assert over_clients(Toy(), "dirichlet:seed=0,clients=10,alpha=2/5").card().digest == digests["dirichlet"]

    class Other(Toy):
        def card(self) -> DataCard:
            return replace(super().card(), digest="other")

    assert over_clients(Other(), "iid").card().digest != digests["iid"]


def test_the_card_says_who_the_clients_are() -> None:
    card = over_clients(Toy(), "dirichlet").card()
    assert (card.name, card.classes) == ("toy", ("class-0", "class-1"))
    told = "clients: 10 by dirichlet (alpha 0.4, least 0.25, seed 0), patients reassigned over hospitals"
    assert card.notes == ("a note", told)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dirichle", "unknown --partition 'dirichle', did you mean 'dirichlet'? valid: site, iid, dirichlet, quantity"),
        ("site:clients=2", "--partition site: unknown parameter 'clients'; valid: it takes none"),
        ("dirichlet:alhpa=1", "--partition dirichlet: unknown parameter 'alhpa', did you mean 'alpha'?"),
        ("dirichlet:alpha=0", "--partition dirichlet: alpha='0' should be greater than"),
        ("iid:clients=0", "--partition iid: clients='0' should be greater than"),
        ("shards:per_client=many", "--partition shards: per_client='many'"),
    ],
)
def test_what_is_wrong_with_a_partition_is_one_line(text: str, message: str) -> None:
    with pytest.raises(BadParameter) as error:
        over_clients(Toy(), text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
