"""What holds for every attack of this plugin, for few and for many classes."""

from __future__ import annotations

import importlib
import itertools

import pytest
import torch
import torch.nn.functional as F

from rbmed_attacks import plugin
from rbmed_attacks.apgd import APGD
from rbmed_attacks.pgd import PGD
from robustbench_med import Budget, Stream, TargetModel, ThreatModel
from robustbench_med.errors import BudgetExceeded

#: Those of a family of changes that is no ball have tests of their own.
SPECS = {spec.name: spec for spec in plugin.rbmed_attacks() if not set(spec.norms) & {"corruption", "acquisition"}}
EPS = {"linf": 0.02, "l2": 0.3, "l1": 4.0}
#: Settings with which an attack gets somewhere in little time; those not named here run with their defaults.
SETTINGS = {
    "autoattack": {"steps": 8, "queries": 30},
    "apgd": {"steps": 20},
    "lee-kim": {"steps": 20},
    "fab": {"steps": 10},
    "cw": {"steps": 15},
    "low-frequency": {"frequency": 0.75},
    "square": {"queries": 250},
    "hopskipjump": {"steps": 8, "samples": 16},
}


def attack_of(name):
    module, attribute = SPECS[name].target.split(":")
    attack = getattr(importlib.import_module(module), attribute)
    return attack(attack.Params(**SETTINGS.get(name, {})))


def stream(ids):
    return Stream.named("attack", 0, torch.tensor(list(ids), dtype=torch.int64))


@pytest.mark.parametrize("name", SPECS)
def test_no_images_at_all(convnet, images, counted, name):
    x, y = images(1)[:0], torch.zeros(0, dtype=torch.int64)
    threat = ThreatModel(norm=SPECS[name].norms[0])
    adv = attack_of(name).run(counted(convnet(2), 0), x, y, threat, Budget(), stream([]))
    assert adv.shape == x.shape


@pytest.mark.parametrize(
    ("name", "norm"), [(n, norm) for n, s in SPECS.items() if s.access != "none" for norm in s.norms]
)
def test_accuracy_falls_with_eps_to_nothing(convnet, images, counted, name, norm):
    net, x = convnet(3), images(24)
    y = net(x).argmax(1)
    accuracy = []
    for factor in (0.01, 0.5, 5):
        threat = ThreatModel(norm=norm, eps=EPS[norm] * factor)
        adv = attack_of(name).run(counted(net, 24), x, y, threat, Budget(), stream(range(24)))
        accuracy.append((net(adv).argmax(1) == y).float().mean().item())
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] >= 0.95
    assert accuracy[-1] <= 0.05


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_controls_are_weaker_than_attacks(convnet, images, counted, norm):
    net, x = convnet(3), images(40)
    y = net(x).argmax(1)
    threat = ThreatModel(norm=norm, eps=EPS[norm])

    def right(name):
        adv = attack_of(name).run(counted(net, 40), x, y, threat, Budget(), stream(range(40)))
        return (net(adv).argmax(1) == y).sum().item()

    assert right("clamp") == 40
    assert right("noise") > 30
    assert right("fgsm") < 20
    assert right("apgd") <= right("pgd") <= right("fgsm")


def test_noise_has_the_size_of_the_threat(counted, convnet):
    x = torch.full((6, 3, 12, 12), 0.5)
    for norm, eps in EPS.items():
        threat = ThreatModel(norm=norm, eps=eps)
        adv = attack_of("noise").run(
            counted(convnet(2), 6), x, torch.zeros(6).long(), threat, Budget(), stream(range(6))
        )
        assert threat.distance(adv, x).sub(eps).abs().max() < eps * 0.01
        assert (adv - x).flatten(1).mean(1).abs().max() < eps * 0.1


def test_a_budget_too_small_for_a_step_is_refused(convnet, images, counted):
    for name in ("apgd", "autoattack", "fab", "fgsm", "lee-kim", "mifgsm", "pgd"):
        with pytest.raises(BudgetExceeded, match="does not allow one gradient step"):
            attack_of(name).run(
                counted(convnet(2), 2),
                images(2),
                torch.tensor([0, 1]),
                ThreatModel(),
                Budget(gradients=0),
                stream([0, 1]),
            )


@pytest.mark.parametrize("attack", [APGD, PGD])
@pytest.mark.parametrize("stop", [True, False])
def test_restarts_start_at_different_points(convnet, images, attack, stop):
    net, x, asked = convnet(10), images(12), []

    class Recording(TargetModel):
        stop_on_success = stop

        def forward(self, x):
            if x.requires_grad:
                asked.append(x.detach())
            return net(x)

    attack = attack(attack.Params(steps=3, restarts=3))
    attack.run(Recording(), x, net(x).argmax(1), ThreatModel(eps=1e-5), Budget(), stream(range(12)))
    starts = asked[::3]
    assert len(starts) == 3
    for a, b in itertools.combinations(starts, 2):
        assert (a - b).flatten(1).abs().amax(1).min() > 1e-6


@pytest.mark.parametrize("attack", [APGD, PGD])
def test_restarts_never_hurt(convnet, images, counted, attack):
    net, x = convnet(10), images(12)
    y = net(x).argmax(1)

    def loss(restarts):
        made = attack(attack.Params(steps=3, restarts=restarts, loss="ce"))
        adv = made.run(counted(net, 12, stop=False), x, y, ThreatModel(eps=0.08), Budget(), stream(range(12)))
        return F.cross_entropy(net(adv), y, reduction="none")

    many, one = loss(3), loss(1)
    assert (many >= one - 1e-6).all()
    assert (many > one + 1e-6).any()
