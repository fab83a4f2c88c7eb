"""Attacks of the Adversarial Robustness Toolbox behind robustbench-med's interface."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med import ThreatModel
from robustbench_med.errors import BadParameter, NotDefined

pytest.importorskip("art")

from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier

from rbmed_peers.from_art import ART

pytestmark = pytest.mark.usefixtures("globals_untouched")

CASES = [
    ("FastGradientMethod", "linf", {"limit": 1}),
    ("ProjectedGradientDescent", "linf", {"max_iter": 5}),
    ("ProjectedGradientDescent", "l2", {"max_iter": 5}),
    ("ProjectedGradientDescent", "l1", {"max_iter": 5, "weak": True}),
    ("AutoProjectedGradientDescent", "linf", {"max_iter": 5, "nb_random_init": 1}),
    ("DeepFool", "l2", {"max_iter": 5}),
    ("CarliniL2Method", "l2", {"max_iter": 3, "binary_search_steps": 1, "weak": True}),
    ("SquareAttack", "linf", {"max_iter": 20, "weak": True}),
    ("SimBA", "l2", {"max_iter": 20, "weak": True}),
    ("HopSkipJump", "l2", {"max_iter": 1, "max_eval": 10, "init_eval": 5, "weak": True}),
    ("BoundaryAttack", "l2", {"max_iter": 3, "num_trial": 3, "sample_size": 3, "weak": True}),
]


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("name", "norm", "params"), CASES, ids=[f"{name}-{norm}" for name, norm, _ in CASES])
def test_behaves(behaves, task, name, norm, params, classes):
    behaves(ART, name, task(classes, n=3), norm, **params)


def test_defaults_suit_the_threat_model(task, monkeypatch):
    seen = {}

    def attack_of(name, **params):
        cls = getattr(evasion, name)
        monkeypatch.setattr(cls, "generate", lambda self, x, y: seen.update(it=self) or x)
        net, x, y = task(10)
        ART(ART.Params(attack=name, **params)).perturb(net, x, y, ThreatModel(eps=0.03), 10, 0)
        return seen["it"]

    # The library's own steps of 0.1 would be longer than this ball is wide.
    assert attack_of("ProjectedGradientDescent").eps_step == pytest.approx(0.01)
    assert attack_of("ProjectedGradientDescent", eps_step="1/255").eps_step == pytest.approx(1 / 255)
    assert attack_of("DeepFool").epsilon == 0.02
    assert attack_of("DeepFool").batch_size == 64
    assert attack_of("CarliniL2Method", batch_size=3).batch_size == 3


def _estimator(net, classes):
    return PyTorchClassifier(
        net, loss=nn.CrossEntropyLoss(), input_shape=(1, 16, 16), nb_classes=classes, clip_values=(0, 1)
    )


def test_sign_opt_is_refused_where_the_library_crashes(alone, attacked, task):
    net, x, y = task(2)
    attack = evasion.SignOPTAttack(_estimator(net, 2), targeted=False)
    with alone(), pytest.raises(ValueError, match="binary"):
        attack.generate(x.numpy(), y=np.eye(2)[y.numpy()])
    with pytest.raises(NotDefined, match="art:SignOPTAttack refuses 2 classes; use HopSkipJump"):
        attacked(ART, "SignOPTAttack", (net.train(), x, y), "l2")


def test_newton_fool_is_refused_where_it_cannot_succeed(attacked, task):
    with pytest.raises(NotDefined, match="NewtonFool"):
        attacked(ART, "NewtonFool", task(2), "l2")
    net, x, y = task(3)
    assert (net(attacked(ART, "NewtonFool", (net, x, y), "l2")).argmax(1) != y).any()


def test_square_in_l1_is_refused_because_it_does_nothing(alone, attacked, task):
    net, x, y = task(10)
    attack = evasion.SquareAttack(_estimator(net, 10), norm=1, eps=8.0, max_iter=5, verbose=False)
    with alone():
        assert np.array_equal(attack.generate(x.numpy(), y=y.numpy()), x.numpy())
    with pytest.raises(BadParameter, match="art:SquareAttack works in linf, not in l1; in l1: "):
        attacked(ART, "SquareAttack", (net.train(), x, y), "l1")


def test_dlr_on_two_classes_is_refused_where_the_library_crashes(alone, attacked, task):
    net, x, y = task(2)
    attack = evasion.AutoProjectedGradientDescent
    with alone(), pytest.raises(IndexError):
        attack(_estimator(net, 2), loss_type="difference_logits_ratio", verbose=False).generate(
            x.numpy(), y=np.eye(2)[y.numpy()]
        )
    with pytest.raises(NotDefined, match="needs 3 classes"):
        attacked(ART, "AutoProjectedGradientDescent", (net.train(), x, y), "linf", loss_type="difference_logits_ratio")


@pytest.mark.parametrize(
    ("name", "reason"), [("AutoAttack", "multiprocess"), ("GeoDA", "working folder"), ("DPatch", "whole images")]
)
def test_what_cannot_run_says_why(name, reason):
    with pytest.raises(BadParameter, match=f"art:{name} is not offered: .*{reason}"):
        ART.Params(attack=name)


def test_images_without_a_starting_point_stay(attacked, task):
    net, x, y = task(2)
    with torch.no_grad():
        net[-1].weight.zero_()
        net[-1].bias.copy_(torch.tensor([1.0, 0.0]))
    assert torch.equal(attacked(ART, "BoundaryAttack", (net, x, torch.zeros_like(y)), "l2", max_iter=2), x)
