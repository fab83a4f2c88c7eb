"""Answers known exactly: linear models' thresholds, and the trap of scaled logits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rbmed_attacks.apgd import APGD
from rbmed_attacks.fgsm import FGSM
from rbmed_attacks.pgd import PGD
from robustbench_med import Budget, Stream, ThreatModel

N = 60


@pytest.fixture
def linear():
    """Builds a linear model of K classes, images in the middle of [0, 1], and the exact distances to an error."""

    def build(classes, norm):
        generator = torch.Generator().manual_seed(classes)
        weight = torch.randn((classes, 27), generator=generator)
        x = 0.5 + 0.02 * torch.randn((N, 3, 3, 3), generator=generator)
        net = nn.Sequential(nn.Flatten(), nn.Linear(27, classes))
        with torch.no_grad():
            net[1].weight.copy_(weight)
            net[1].bias.copy_(-weight.sum(1) / 2)
        logits = net(x).detach()
        y = logits.argmax(1)
        gap = logits.gather(1, y[:, None]) - logits
        slope = (weight[y][:, None] - weight[None]).norm(p=1 if norm == "linf" else 2, dim=2)
        distance = (gap / slope).scatter(1, y[:, None], torch.inf).amin(1)
        return net, x, y, distance

    return build


def broken(attack, net, x, y, norm, eps, counted):
    rng = Stream.named("attack", 0, torch.arange(N))
    adv = attack.run(counted(net, N), x, y, ThreatModel(norm=norm, eps=eps), Budget(), rng)
    return net(adv).argmax(1) != y


# With more than two classes only a targeted attack is sure to look in the direction of the nearest boundary.
EXACT = [
    pytest.param(APGD(APGD.Params(loss="margin", targeted=True, steps=25)), (2, 3, 10), id="apgd-targeted-margin"),
    pytest.param(APGD(APGD.Params(loss="dlr", targeted=True, steps=50)), (4,), id="apgd-targeted-dlr"),
    pytest.param(APGD(APGD.Params(loss="margin", steps=25)), (2,), id="apgd-margin"),
    pytest.param(APGD(APGD.Params(loss="ce", steps=25)), (2,), id="apgd-ce"),
    pytest.param(PGD(PGD.Params(steps=10, random_start=False)), (2,), id="pgd"),
    pytest.param(FGSM(), (2,), id="fgsm"),
]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("attack", "classes"), EXACT)
def test_breaks_a_linear_model_exactly_from_its_threshold_on(linear, counted, attack, classes, norm):
    for k in classes:
        net, x, y, distance = linear(k, norm)
        for quantile in (0.3, 0.7):
            eps = distance.quantile(quantile).item()
            result = broken(attack, net, x, y, norm, eps, counted)
            assert result[distance < 0.99 * eps].all()
            assert not result[distance > 1.0001 * eps].any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
def test_untargeted_attacks_on_three_classes_come_close_to_the_threshold(linear, counted, loss, norm):
    net, x, y, distance = linear(3, norm)
    eps = distance.quantile(0.5).item()
    result = broken(APGD(APGD.Params(loss=loss, steps=50)), net, x, y, norm, eps, counted)
    assert result[distance < 0.99 * eps].float().mean() >= 0.8  # ce mixes directions
    assert not result[distance > 1.0001 * eps].any()


def test_scaled_logits_fool_cross_entropy_and_not_the_margin(convnet, images, counted):
    x, threat = images(64), ThreatModel(eps=0.012)

    def accuracy(loss, scale):
        net = convnet(2, scale=scale)
        y = convnet(2)(x).argmax(1)
        attack = APGD(APGD.Params(loss=loss, steps=20))
        adv = attack.run(counted(net, 64), x, y, threat, Budget(), Stream.named("attack", 0, torch.arange(64)))
        return (net(adv).argmax(1) == y).float().mean().item()

    margin = [accuracy("margin", scale) for scale in (1, 10, 100, 300, 1000)]
    assert 0.2 < margin[0] < 0.8
    assert set(margin) == {margin[0]}
    assert accuracy("auto", 1000) == margin[0]
    assert accuracy("ce", 1) == margin[0]
    assert accuracy("ce", 1000) > margin[0] + 0.1
