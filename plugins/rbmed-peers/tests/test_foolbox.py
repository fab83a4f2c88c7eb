"""Attacks of Foolbox behind robustbench-med's interface."""

from __future__ import annotations

import pytest
import torch

from robustbench_med.errors import BadParameter

pytest.importorskip("foolbox")

from rbmed_peers.from_foolbox import Foolbox

pytestmark = pytest.mark.usefixtures("globals_untouched")

HOP = {"steps": 3, "initial_gradient_eval_steps": 10, "max_gradient_eval_steps": 20}
CASES = [
    ("LinfPGD", "linf", {}),
    ("L2PGD", "l2", {}),
    ("L1PGD", "l1", {}),
    ("LinfFastGradientAttack", "linf", {"limit": 1}),
    ("LinfDeepFoolAttack", "linf", {"steps": 5}),
    ("DDNAttack", "l2", {"steps": 10}),
    ("L2FMNAttack", "l2", {"steps": 10}),
    ("L2CarliniWagnerAttack", "l2", {"steps": 20, "binary_search_steps": 3, "weak": True}),
    ("NewtonFoolAttack", "l2", {"steps": 10}),
    ("LinearSearchBlendedUniformNoiseAttack", "l2", {"directions": 5, "steps": 5, "weak": True}),
    ("HopSkipJumpAttack", "linf", {**HOP, "weak": True}),
    ("HopSkipJumpAttack", "l2", {**HOP, "weak": True}),
    ("BoundaryAttack", "l2", {"steps": 5, "weak": True}),
]


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("name", "norm", "params"), CASES, ids=[f"{name}-{norm}" for name, norm, _ in CASES])
def test_behaves(behaves, task, name, norm, params, classes):
    behaves(Foolbox, name, task(classes), norm, **params)


@pytest.mark.parametrize("name", sorted(Foolbox.catalogue.offers))
def test_every_attack_on_offer_runs_in_every_norm_it_names(attacked, task, name):
    offer = Foolbox.catalogue.offers[name]
    small = {**HOP, "steps": 2, "binary_search_steps": 1, "directions": 2, "repeats": 2}
    params = {key: value for key, value in small.items() if key in offer.arguments}
    for norm in offer.norms:
        attacked(Foolbox, name, task(10, channels=3), norm, **params)


def test_hop_skip_jump_comes_close_in_the_norm_of_the_threat(attacked, task):
    net, x, y = task(3)
    params = {"steps": 10, "initial_gradient_eval_steps": 20, "max_gradient_eval_steps": 60}
    for norm, eps in (("linf", 0.1), ("l2", 1.0)):
        made = attacked(Foolbox, "HopSkipJumpAttack", (net, x, y), norm, eps=eps, **params)
        assert (net(made).argmax(1) != y).float().mean() >= 0.5


def test_an_image_without_a_starting_point_stays(attacked, task):
    net, x, y = task(2)
    with torch.no_grad():
        net[-1].weight.zero_()
        net[-1].bias.copy_(torch.tensor([1.0, 0.0]))
    made = attacked(Foolbox, "HopSkipJumpAttack", (net, x, torch.zeros_like(y)), "l2", **HOP)
    assert torch.equal(made, x)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("GenAttack", "target class"), ("L0FMNAttack", "L0"), ("PointwiseAttack", "epsilon"), ("SpatialAttack", "shifts")],
)
def test_what_cannot_run_says_why(name, reason):
    with pytest.raises(BadParameter, match=f"foolbox:{name} is not offered: .*{reason}"):
        Foolbox.Params(attack=name)
