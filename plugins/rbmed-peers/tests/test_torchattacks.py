"""Attacks of torchattacks behind robustbench-med's interface."""

from __future__ import annotations

import pytest
import torch

from robustbench_med import ThreatModel
from robustbench_med.errors import BadParameter, NotDefined

torchattacks = pytest.importorskip("torchattacks")

from torchattacks.attack import Attack  # noqa: E402 -- needs the library

from rbmed_peers.from_torchattacks import TorchAttacks  # noqa: E402

pytestmark = pytest.mark.usefixtures("globals_untouched")

CASES = [
    ("FGSM", "linf", {"limit": 1}),
    ("PGD", "linf", {"steps": 5}),
    ("TPGD", "linf", {"steps": 10}),
    ("SPSA", "linf", {"nb_iter": 5, "nb_sample": 16, "weak": True}),
    ("APGD", "linf", {"steps": 5}),
    ("APGD", "l2", {"steps": 5}),
    ("FAB", "linf", {"steps": 5}),
    ("FAB", "l2", {"steps": 5, "multi_targeted": True}),
    ("Square", "linf", {"n_queries": 60, "weak": True}),
    ("Square", "l2", {"n_queries": 60, "weak": True}),
    ("PGDL2", "l2", {"steps": 5}),
    ("CW", "l2", {"c": 10}),
    ("DeepFool", "l2", {"steps": 5}),
    ("EADL1", "l1", {"binary_search_steps": 3, "max_iterations": 20, "weak": True}),
]


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("name", "norm", "params"), CASES, ids=[f"{name}-{norm}" for name, norm, _ in CASES])
def test_behaves(behaves, task, name, norm, params, classes):
    behaves(TorchAttacks, name, task(classes), norm, **params)


@pytest.mark.parametrize("name", sorted(TorchAttacks.catalogue.offers))
def test_every_attack_on_offer_runs_in_every_norm_it_names(attacked, task, name):
    offer = TorchAttacks.catalogue.offers[name]
    small = {"steps": 2, "n_queries": 5, "nb_sample": 4, "max_iterations": 10, "binary_search_steps": 1}
    params = {key: value for key, value in small.items() if key in offer.arguments}
    for norm in offer.norms:
        attacked(TorchAttacks, name, task(10, channels=3), norm, **params)


def test_another_seed_gives_other_images(attacked, task):
    one, other = (attacked(TorchAttacks, "PGD", task(3), "linf", steps=2, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("name", "classes"), [("APGDT", 2), ("APGDT", 3), ("AutoAttack", 2), ("AutoAttack", 3)])
def test_too_few_classes_are_refused_where_the_library_crashes(alone, attacked, task, name, classes):
    net, x, y = task(classes)
    with alone(), pytest.raises(IndexError):
        getattr(torchattacks, name)(net.eval(), eps=1e-5, n_classes=classes, seed=0)(x, y)
    net.train()
    with pytest.raises(NotDefined, match=rf"torchattacks:{name} needs 4 classes .*, not {classes}; use "):
        attacked(TorchAttacks, name, (net, x, y), "linf", eps=1e-5)


@pytest.mark.parametrize("name", ["APGD", "UPGD"])
def test_dlr_on_two_classes_is_refused_where_the_library_crashes(alone, attacked, task, name):
    net, x, y = task(2)
    with alone(), pytest.raises(IndexError):
        getattr(torchattacks, name)(net.eval(), loss="dlr")(x, y)
    with pytest.raises(NotDefined, match="needs 3 classes"):
        attacked(TorchAttacks, name, (net.train(), x, y), "linf", loss="dlr")
    attacked(TorchAttacks, name, task(3), "linf", loss="dlr", steps=2)


@pytest.mark.parametrize("name", ["TIFGSM", "PIFGSM", "PIFGSMPP"])
def test_one_channel_is_refused_where_the_library_crashes(alone, attacked, task, name):
    net, x, y = task(3)
    with alone(), pytest.raises(RuntimeError, match="groups=3"):
        getattr(torchattacks, name)(net.eval())(x, y)
    with pytest.raises(NotDefined, match=f"torchattacks:{name} convolves 3 channels, the images have 1; use"):
        attacked(TorchAttacks, name, (net.train(), x, y), "linf")


@pytest.mark.parametrize("side", [12, 14, 18, 19, 24])
def test_square_in_l2_is_refused_on_sides_it_cannot_tile(alone, attacked, task, side):
    net, x, y = task(10, side=side)
    with alone(), pytest.raises(RuntimeError):
        torchattacks.Square(net.eval(), norm="L2", eps=1e-5, n_queries=2)(x, y)
    with pytest.raises(NotDefined, match=f"side {side}"):
        attacked(TorchAttacks, "Square", (net.train(), x, y), "l2")


@pytest.mark.parametrize("side", [10, 11, 13, 15, 16, 17, 20, 23, 25, 28, 32])
def test_square_in_l2_runs_on_other_sides(attacked, task, side):
    attacked(TorchAttacks, "Square", task(10, side=side), "l2", n_queries=2)


def test_jsma_is_not_offered_and_crashes_on_two_classes(alone, task):
    net, x, y = task(2, n=1, side=10)
    with alone(), pytest.raises((IndexError, RuntimeError)):
        torchattacks.JSMA(net.eval())(x, torch.ones_like(y))
    with pytest.raises(BadParameter, match="L0"):
        TorchAttacks.Params(attack="JSMA")


@pytest.mark.parametrize("name", ["EADL1", "EADEN"])
def test_fewer_than_ten_iterations_crash_ead(attacked, task, name):
    with pytest.raises(BadParameter, match="max_iterations"):
        attacked(TorchAttacks, name, task(3), "l1", max_iterations=9)
    attacked(TorchAttacks, name, task(3), "l1", max_iterations=9, abort_early=False, binary_search_steps=1)


def test_weak_defaults_are_not_used(task, monkeypatch):
    seen = {}

    def attack_of(name, **params):
        made = TorchAttacks(TorchAttacks.Params(attack=name, **params))
        monkeypatch.setattr(Attack, "__call__", lambda self, x, y: seen.update(it=self) or x)
        net, x, y = task(10)
        made.perturb(net, x, y, ThreatModel(eps=0.02), 10, 0)
        return seen["it"]

    assert attack_of("APGD").steps == attack_of("APGDT").steps == attack_of("FAB").steps == 100
    assert attack_of("APGD", steps=7).steps == 7
    assert attack_of("Square").rescale_schedule is False
    assert attack_of("Square", resc_schedule="yes").rescale_schedule is True
    assert attack_of("PGD").alpha == pytest.approx(0.005)  # the library's 2/255 for 8/255, scaled to eps
    assert attack_of("PGD", alpha="1/255").alpha == pytest.approx(1 / 255)
    parts = attack_of("AutoAttack")._autoattack.attacks
    assert [getattr(part, "steps", None) for part in parts] == [100, 100, 100, None]
    assert parts[3].rescale_schedule is False


def test_variant_names_version_and_changed_defaults():
    version = torchattacks.__version__
    made = TorchAttacks(TorchAttacks.Params(attack="APGD"))
    assert made.variant(2, "linf") == f"torchattacks-{version}:APGD,steps=100"
    made = TorchAttacks(TorchAttacks.Params(attack="APGD", steps=5))
    assert made.variant(2, "linf") == f"torchattacks-{version}:APGD"


def test_wrong_images_stay_and_need_not_be_attacked(attacked, task):
    net, x, y = task(3)
    y = y.clone()
    y[0] = (y[0] + 1) % 3
    made = attacked(TorchAttacks, "PGD", (net, x, y), "linf")
    assert torch.equal(made[0], x[0])
    assert not torch.equal(made[1:], x[1:])
    # Where a wrong answer of the target model proves nothing, every image is attacked.
    assert not torch.equal(attacked(TorchAttacks, "PGD", (net, x, y), "linf", stop=False)[0], x[0])
