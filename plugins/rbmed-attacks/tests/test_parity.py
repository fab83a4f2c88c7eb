"""Auto-PGD gives the same images as the authors' code (pyautoattack 0.2.0)."""

from __future__ import annotations

import pytest
import torch

from rbmed_attacks.apgd import APGD, Momentum
from rbmed_attacks.ascent import ascend
from rbmed_attacks.losses import targeted, untargeted
from rbmed_attacks.norms import Ball
from robustbench_med import Budget, ThreatModel

official = pytest.importorskip("pyautoattack.autopgd_base")

NORMS = [("linf", 0.008), ("l2", 0.12)]
OFFICIAL_NORM = {"linf": "Linf", "l2": "L2"}
STEPS = 100


class Replay:
    """A stream that hands out what the official code draws after ``torch.manual_seed(seed)``."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __getitem__(self, index):
        return self

    def uniform(self, shape):
        return torch.rand(shape, generator=self.generator)

    def normal(self, shape):
        return torch.randn(shape, generator=self.generator)


@pytest.fixture
def task(convnet, images):
    """A 10-class net with 24 images, of which it gets three wrong before any attack."""
    net, x = convnet(10, scale=4.0), images(24)
    y = net(x).argmax(1)
    y[:3] = (y[:3] + 1) % 10
    return net, x, y


def same(ours, theirs):
    return (ours - theirs).abs().max().item() <= 1e-5


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_one_run_finds_the_same_points_and_losses(task, counted, norm, eps, loss):
    net, x, y = task
    theirs = official.APGDAttack(net, n_iter=STEPS, norm=OFFICIAL_NORM[norm], eps=eps, loss=loss)
    theirs.init_hyperparam(x)
    torch.manual_seed(5)
    best, right, best_loss, wrong = theirs.attack_single_run(x, y)

    ball = Ball(norm, eps)
    start = ball.on_sphere(x, Replay(5))
    objective, mover = untargeted(loss), Momentum(ball, STEPS, 0.75)
    found = ascend(counted(net, 24), x, y, y, start, objective, mover, STEPS, leave=False)
    assert same(found.best, best)
    assert same(found.loss, best_loss)
    assert same(found.wrong, wrong)
    assert torch.equal(found.broken, ~right.bool())
    assert 3 < found.broken.sum() < 24  # Both kinds of images were compared.


@pytest.mark.parametrize(("norm", "eps"), NORMS)
def test_one_targeted_run_finds_the_same_points_and_losses(task, counted, norm, eps):
    net, x, y = task
    theirs = official.APGDAttack_targeted(net, n_iter=STEPS, norm=OFFICIAL_NORM[norm], eps=eps)
    theirs.init_hyperparam(x)
    theirs.y_target = (y + 3) % 10
    torch.manual_seed(5)
    best, right, best_loss, wrong = theirs.attack_single_run(x, y)

    ball = Ball(norm, eps)
    start = ball.on_sphere(x, Replay(5))
    objective, mover = targeted("dlr"), Momentum(ball, STEPS, 0.75)
    found = ascend(counted(net, 24), x, y, (y + 3) % 10, start, objective, mover, STEPS, leave=False)
    assert same(found.best, best)
    assert same(found.loss, best_loss)
    assert same(found.wrong, wrong)
    assert torch.equal(found.broken, ~right.bool())


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("restarts", [1, 2])
def test_whole_attack_at_the_highest_loss(task, counted, norm, eps, loss, restarts):
    net, x, y = task
    theirs = official.APGDAttack(net, n_iter=STEPS, norm=OFFICIAL_NORM[norm], eps=eps, loss=loss, n_restarts=restarts)
    torch.manual_seed(11)  # With best_loss, `perturb` does not seed by itself.
    expected = theirs.perturb(x.clone(), y.clone(), best_loss=True)
    attack = APGD(APGD.Params(steps=STEPS, loss=loss, restarts=restarts))
    ours = attack.run(counted(net, 24, stop=False), x, y, ThreatModel(norm=norm, eps=eps), Budget(), Replay(11))
    assert same(ours, expected)


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({"loss": "ce", "restarts": 2}, lambda net, **kw: official.APGDAttack(net, loss="ce", n_restarts=2, **kw)),
        ({"loss": "dlr", "restarts": 2}, lambda net, **kw: official.APGDAttack(net, loss="dlr", n_restarts=2, **kw)),
        ({"loss": "dlr", "targeted": True}, lambda net, **kw: official.APGDAttack_targeted(net, **kw)),
    ],
    ids=["ce", "dlr", "targeted-dlr"],
)
def test_whole_attack_breaks_the_same_images_in_the_same_way(task, counted, norm, eps, settings, theirs):
    net, x, y = task
    expected = theirs(net, n_iter=30, norm=OFFICIAL_NORM[norm], eps=eps, seed=11).perturb(x.clone(), y.clone())
    attack = APGD(APGD.Params(steps=30, stop="never", **settings))
    ours = attack.run(counted(net, 24), x, y, ThreatModel(norm=norm, eps=eps), Budget(), Replay(11))
    broken = net(expected).argmax(1) != y
    assert torch.equal(net(ours).argmax(1) != y, broken)
    assert 3 < broken.sum() < 24
    assert same(ours[broken], expected[broken])  # The official code returns the others clean, ours at the highest loss.
