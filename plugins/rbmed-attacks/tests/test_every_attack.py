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
from robustbench_med import Budget, Stream, Surface, ThreatModel
from robustbench_med.errors import BudgetExceeded

SPECS = {spec.name: spec for spec in plugin.rbmed_attacks()}
EPS = {"linf": 0.02, "l2": 0.3}
SETTINGS = {
    "apgd": [{"steps": 7}, {"steps": 4, "targeted": True}, {"steps": 4, "loss": "margin", "restarts": 2}],
    "pgd": [{}, {"steps": 4, "step_size": "1/255", "restarts": 2, "loss": "ce"}, {"random_start": False}],
    "fgsm": [{}, {"loss": "ce"}],
    "noise": [{}],
    "clean": [{}],
}
CASES = [pytest.param(n, s, id=f"{n}-{i}") for n, settings in SETTINGS.items() for i, s in enumerate(settings)]


def attack_of(name, settings):
    module, attribute = SPECS[name].target.split(":")
    attack = getattr(importlib.import_module(module), attribute)
    return attack(attack.Params(**settings))


def stream(ids):
    return Stream.named("attack", 0, torch.tensor(list(ids), dtype=torch.int64))


def test_every_spec_is_covered():
    assert set(SPECS) == set(SETTINGS)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3, 7, 10])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_stays_inside_and_touches_nothing(convnet, images, counted, name, settings, classes, norm, stop):
    net, x = convnet(classes), images(5)
    net.train()  # The mode is the surface's business, whatever it is.
    y = torch.arange(5) % classes
    before, weights = x.clone(), [w.detach().clone() for w in net.parameters()]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    threat = ThreatModel(norm=norm, eps=EPS[norm])
    adv = attack_of(name, settings).run(counted(net, 5, stop), x, y, threat, Budget(), stream(range(5)))
    threat.check(adv, x)
    assert not adv.requires_grad
    assert adv.dtype == x.dtype
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert all(torch.equal(w, old) for w, old in zip(net.parameters(), weights, strict=True))
    assert all(w.grad is None for w in net.parameters())
    assert all(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_repeats_exactly_and_does_not_depend_on_the_batch(convnet, images, counted, name, settings, norm, stop):
    net, x, attack = convnet(3), images(9), attack_of(name, settings)
    y = net(x).argmax(1)
    y[0] = (y[0] + 1) % 3
    threat = ThreatModel(norm=norm, eps=EPS[norm] / 2)

    def run(rows):
        return attack.run(counted(net, len(rows), stop), x[rows], y[rows], threat, Budget(), stream(rows))

    whole = run(list(range(9)))
    assert torch.equal(whole, run(list(range(9))))
    split = torch.cat([run([0]), run([1, 2, 3]), run([4, 5, 6, 7, 8])])
    torch.testing.assert_close(whole, split, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_no_images_at_all(convnet, images, counted, name, settings):
    x, y = images(1)[:0], torch.zeros(0, dtype=torch.int64)
    adv = attack_of(name, settings).run(counted(convnet(2), 0), x, y, ThreatModel(), Budget(), stream([]))
    assert adv.shape == x.shape


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["apgd", "pgd", "fgsm"])
def test_accuracy_falls_with_eps_to_nothing(convnet, images, counted, name, norm):
    net, x = convnet(3), images(40)
    y = net(x).argmax(1)
    accuracy = []
    for factor in (0.01, 0.2, 0.5, 1, 5):
        threat = ThreatModel(norm=norm, eps=EPS[norm] * factor)
        adv = attack_of(name, {}).run(counted(net, 40), x, y, threat, Budget(), stream(range(40)))
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
        adv = attack_of(name, {}).run(counted(net, 40), x, y, threat, Budget(), stream(range(40)))
        return (net(adv).argmax(1) == y).sum().item()

    assert right("clean") == 40
    assert right("noise") > 30
    assert right("fgsm") < 20
    assert right("apgd") <= right("pgd") <= right("fgsm")


def test_noise_has_the_size_of_the_threat(counted, convnet):
    x = torch.full((6, 3, 12, 12), 0.5)
    for norm, eps in EPS.items():
        threat = ThreatModel(norm=norm, eps=eps)
        adv = attack_of("noise", {}).run(
            counted(convnet(2), 6), x, torch.zeros(6).long(), threat, Budget(), stream(range(6))
        )
        assert threat.distance(adv, x).sub(eps).abs().max() < eps * 0.01
        assert (adv - x).flatten(1).mean(1).abs().max() < eps * 0.1


@pytest.mark.parametrize("limit", [{"gradients": 1}, {"gradients": 25}, {"queries": 3}, {"queries": 25}])
@pytest.mark.parametrize(("name", "settings"), [c for c in CASES if SPECS[c.values[0]].access == "gradient"])
@pytest.mark.parametrize("stop", [True, False])
def test_the_budget_is_kept(convnet, images, counted, name, settings, limit, stop):
    net, x = convnet(4), images(6)
    surface = counted(net, 6, stop)
    attack_of(name, settings).run(
        surface, x, net(x).argmax(1), ThreatModel(eps=1e-4), Budget(**limit), stream(range(6))
    )
    assert 1 <= surface.gradients.max() <= limit.get("gradients", 1000)
    assert surface.forwards.max() <= limit.get("queries", 1000)


def test_a_budget_too_small_for_a_step_is_refused(convnet, images, counted):
    for name in ("apgd", "pgd", "fgsm"):
        with pytest.raises(BudgetExceeded, match="does not allow one gradient step"):
            attack_of(name, {}).run(
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

    class Recording(Surface):
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
