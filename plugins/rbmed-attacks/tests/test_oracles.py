"""Answers known exactly: linear models' thresholds, and the trap of scaled logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, linprog
from torch import nn

from rbmed_attacks.apgd import APGD
from rbmed_attacks.cw import CW
from rbmed_attacks.fab import FAB
from rbmed_attacks.norms import in_ball
from rbmed_attacks.pgd import FGSM, PGD
from rbmed_attacks.square import Square
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
        slope = (weight[y][:, None] - weight[None]).norm(p={"linf": 1, "l2": 2, "l1": torch.inf}[norm], dim=2)
        distance = (gap / slope).scatter(1, y[:, None], torch.inf).amin(1)
        return net, x, y, distance

    return build


def broken(attack, net, x, y, norm, eps, counted):
    rng = Stream.named("attack", 0, torch.arange(N))
    adv = attack.run(counted(net, N), x, y, ThreatModel(norm=norm, eps=eps), Budget(), rng)
    return net(adv).argmax(1) != y


def test_a_random_start_in_l1_is_finite_whatever_number_is_drawn() -> None:
    x, rng = torch.full((1, 1, 256, 256), 0.5), Stream.named("attack:x", 0, torch.tensor([27]))
    assert (rng[:].uniform(tuple(x.shape)) == 0).any()  # whose logarithm is infinite
    assert in_ball(ThreatModel("l1", 10.0), x, rng).isfinite().all()


BOTH, ALL = ("linf", "l2"), ("linf", "l2", "l1")


def each_norm(cases):
    """Cases whose last value lists norms, as one case for each of these."""
    return [pytest.param(*case.values[:-1], norm, id=f"{case.id}-{norm}") for case in cases for norm in case.values[-1]]


# With more than two classes only an attack that looks at each is sure to find the nearest boundary.
EXACT = [
    pytest.param(
        APGD(APGD.Params(loss="margin", targeted=True, steps=25)), (2, 3, 10), BOTH, id="apgd-targeted-margin"
    ),
    pytest.param(APGD(APGD.Params(loss="dlr", targeted=True, steps=50)), (4,), BOTH, id="apgd-targeted-dlr"),
    pytest.param(APGD(APGD.Params(loss="margin", steps=25)), (2,), BOTH, id="apgd-margin"),
    pytest.param(APGD(APGD.Params(loss="ce", steps=25)), (2,), BOTH, id="apgd-ce"),
    pytest.param(PGD(PGD.Params(steps=10, random_start=False)), (2,), BOTH, id="pgd"),
    pytest.param(FGSM(), (2,), BOTH, id="fgsm"),
    pytest.param(FAB(FAB.Params(steps=10)), (2, 3, 10), ALL, id="fab"),
    pytest.param(FAB(FAB.Params(steps=10, targeted=True)), (2, 3, 10), ALL, id="fab-targeted"),
    pytest.param(CW(CW.Params(steps=60, searches=2)), (2, 3, 10), ("l2",), id="cw"),
]


@pytest.mark.parametrize(("attack", "classes", "norm"), each_norm(EXACT))
def test_breaks_a_linear_model_exactly_from_its_threshold_on(linear, counted, attack, classes, norm):
    for k in classes:
        net, x, y, distance = linear(k, norm)
        for quantile in (0.3, 0.7):
            eps = distance.quantile(quantile).item()
            result = broken(attack, net, x, y, norm, eps, counted)
            assert result[distance < 0.99 * eps].all()
            assert not result[distance > 1.0001 * eps].any()


MINIMUM_NORM = [
    pytest.param(FAB(FAB.Params(steps=20, stop="never")), ALL, id="fab"),
    pytest.param(CW(CW.Params(stop="never")), ("l2",), id="cw"),
]


@pytest.mark.parametrize(("attack", "norm"), each_norm(MINIMUM_NORM))
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_minimum_norm_attacks_come_within_five_per_cent_of_the_optimum(linear, counted, attack, norm, classes):
    net, x, y, distance = linear(classes, norm)
    threat = ThreatModel(norm=norm, eps=1.0 if norm == "linf" else 100)
    rng = Stream.named("attack", 0, torch.arange(N))
    adv = attack.run(counted(net, N), x, y, threat, Budget(), rng)
    assert (net(adv).argmax(1) != y).all()
    assert (threat.distance(adv, x) <= 1.05 * distance).all()


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_fab_knows_the_box(linear, counted, norm, classes):
    """Where many pixels are at 0 or 1, a solver knows the nearest point of the boundary inside [0, 1]."""
    net, x, _, _ = linear(classes, norm)
    x = ((x - 0.5) * 30 + 0.5).clamp(0, 1)[:12]
    assert ((x == 0) | (x == 1)).float().mean() > 0.3
    logits = net(x).detach()
    y, weight = logits.argmax(1), net[1].weight.detach()
    attack = FAB(FAB.Params(steps=40, stop="never"))
    rng = Stream.named("attack", 0, torch.arange(12))
    threat = ThreatModel(norm=norm, eps=1.0 if norm == "linf" else 100)
    adv = attack.run(counted(net, 12), x, y, threat, Budget(), rng)
    optimum = torch.tensor(
        [
            min(
                shortest(norm, image.flatten(), weight[k] - weight[label], z[label] - z[k])
                for k in range(classes)
                if k != label
            )
            for image, label, z in zip(x, y, logits, strict=True)
        ]
    )
    assert (net(adv).argmax(1) != y).all()
    assert (threat.distance(adv, x) <= 1.05 * optimum).all()


def shortest(norm, x, slope, rise):
    """Length of the shortest step s with slope . s = rise that stays in [0, 1]; infinite if there is none."""
    x, slope, rise = x.double().numpy(), slope.double().numpy(), float(rise)
    room = np.where(slope > 0, 1 - x, x)
    if (np.abs(slope) * room).sum() < rise:
        return np.inf
    if norm == "l1":
        return linprog(np.ones(len(x)), A_eq=[np.abs(slope)], b_eq=[rise], bounds=np.stack((0 * room, room), 1)).fun
    power = 1 if norm == "linf" else 2

    def way(level):
        return np.minimum(level * np.abs(slope) ** (power - 1), room)

    level = brentq(lambda level: (np.abs(slope) * way(level)).sum() - rise, 0, 1e6)
    return np.linalg.norm(way(level), ord=np.inf if norm == "linf" else 2)


# Random search, and in L1 steps shared by several pixels, come close only.
NEAR = [
    pytest.param(Square(Square.Params(queries=300)), 0.5, 0.7, ALL, id="square"),
    pytest.param(APGD(APGD.Params(loss="margin", targeted=True, steps=50)), 0.8, 1.0, ("l1",), id="apgd"),
    pytest.param(PGD(PGD.Params(steps=30, loss="margin")), 0.8, 1.0, ("l1",), id="pgd"),
]


@pytest.mark.parametrize(("attack", "far", "share", "norm"), each_norm(NEAR))
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_comes_near_a_linear_model_s_threshold(linear, counted, attack, classes, far, share, norm):
    net, x, y, distance = linear(classes, norm)
    eps = distance.quantile(0.5).item()
    result = broken(attack, net, x, y, norm, eps, counted)
    assert result[distance < far * eps].float().mean() >= share
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
