"""Auto-PGD, FAB and Square give the same images as the authors' code (pyautoattack 0.2.0)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rbmed_attacks import square
from rbmed_attacks.apgd import APGD
from rbmed_attacks.fab import FAB
from rbmed_attacks.square import Square
from robustbench_med import Budget, ThreatModel

official = pytest.importorskip("pyautoattack.autopgd_base")
official_fab = pytest.importorskip("pyautoattack.fab_pt").FABAttack_PT
official_square = pytest.importorskip("pyautoattack.square").SquareAttack

NORMS = [("linf", 0.008), ("l2", 0.12)]
OFFICIAL_NORM = {"linf": "Linf", "l2": "L2", "l1": "L1"}
#: Norm, eps, how many of the numbers of a proposal are drawn per image (the signs of three channels), restarts.
SQUARE = [("linf", 0.03, 0, 2), ("l2", 0.5, 3, 1)]
STEPS = 100


class Replay:
    """A stream that hands out what the official code draws after ``torch.manual_seed(seed)``."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __getitem__(self, index):
        return self

    def fork(self, name):
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

    attack, threat = APGD(APGD.Params(loss=loss)), ThreatModel(norm=norm, eps=eps)
    begin = attack.start(x, threat, Replay(5))
    found = attack.run_once(counted(net, 24, stop=False), x, y, y, threat, STEPS, begin)
    assert same(found.best, best)
    assert same(found.best_loss, best_loss)
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

    attack, threat = APGD(APGD.Params(loss="dlr", targeted=True)), ThreatModel(norm=norm, eps=eps)
    begin = attack.start(x, threat, Replay(5))
    found = attack.run_once(counted(net, 24, stop=False), x, y, (y + 3) % 10, threat, STEPS, begin)
    assert same(found.best, best)
    assert same(found.best_loss, best_loss)
    assert same(found.wrong, wrong)
    assert torch.equal(found.broken, ~right.bool())


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_whole_attack_at_the_highest_loss(task, counted, norm, eps, loss):
    net, x, y = task
    theirs = official.APGDAttack(net, n_iter=40, norm=OFFICIAL_NORM[norm], eps=eps, loss=loss, n_restarts=2)
    torch.manual_seed(11)  # With best_loss, `perturb` does not seed by itself.
    expected = theirs.perturb(x.clone(), y.clone(), best_loss=True)
    attack = APGD(APGD.Params(steps=40, loss=loss, restarts=2))
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


@pytest.mark.parametrize("eps", [0.5, 1.0])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_l1_breaks_most_images_in_the_same_way(task, counted, eps, loss):
    """The published code counts changed pixels including those that only rounding changed, so some paths part."""
    net, x, y = task
    theirs = official.APGDAttack(net, n_iter=50, norm="L1", eps=eps, seed=11, loss=loss)
    expected = theirs.perturb(x.clone(), y.clone())
    attack = APGD(APGD.Params(steps=50, stop="never", loss=loss))
    ours = attack.run(counted(net, 24), x, y, ThreatModel(norm="l1", eps=eps), Budget(), Replay(11))
    mostly_same(net, y, ours, expected)


def mostly_same(net, y, ours, expected):
    broken, ours_too = net(expected).argmax(1) != y, net(ours).argmax(1) != y
    assert 3 < broken.sum() < 24
    assert (broken != ours_too).sum() <= 2
    equal = (ours - expected)[broken & ours_too].abs().flatten(1).amax(1) <= 1e-5
    assert equal.float().mean() >= 0.7


@pytest.mark.parametrize(("norm", "eps"), [*NORMS, ("l1", 0.5)])
@pytest.mark.parametrize(("targeted", "restarts"), [(False, 2), (True, 1)])
def test_fab_finds_the_same_images(task, counted, norm, eps, targeted, restarts):
    net, x, y = task
    theirs = official_fab(
        net, norm=OFFICIAL_NORM[norm], n_restarts=restarts, n_iter=20, eps=eps, seed=11, targeted=targeted
    )
    expected = theirs.perturb(x.clone(), y.clone())
    attack = FAB(FAB.Params(steps=20, restarts=restarts, targeted=targeted, stop="never"))
    ours = attack.run(counted(net, 24), x, y, ThreatModel(norm=norm, eps=eps), Budget(), Replay(11))
    broken = net(expected).argmax(1) != y
    assert torch.equal(net(ours).argmax(1) != y, broken)
    assert 3 < broken.sum() < 24
    assert same(ours[broken], expected[broken])  # The official code returns the others clean.


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), [*NORMS, ("l1", 0.5)])
def test_fab_finds_images_as_near_in_a_long_run(task, counted, norm, eps):
    """After convergence several steps are equally near, so another one of them may be returned."""
    net, x, y = task
    theirs = official_fab(net, norm=OFFICIAL_NORM[norm], n_iter=100, eps=eps, seed=11)
    expected = theirs.perturb(x.clone(), y.clone())
    threat = ThreatModel(norm=norm, eps=eps)
    ours = FAB(FAB.Params(stop="never")).run(counted(net, 24), x, y, threat, Budget(), Replay(11))
    broken = net(expected).argmax(1) != y
    assert torch.equal(net(ours).argmax(1) != y, broken)
    assert (threat.distance(ours, x) - threat.distance(expected, x))[broken].abs().max() <= 1e-5 * eps
    assert (ours - expected)[broken].abs().max() <= 5e-5


class Shared(Replay):
    """The published Square draws positions, and in Linf also signs, once for all images; ours draws them for each."""

    def __init__(self, seed, own):
        super().__init__(seed)
        self.own = own  # How many of the numbers of a proposal are drawn per image.

    def uniform(self, shape):
        if len(shape) != 3:
            return super().uniform(shape)
        images, moments, numbers = shape
        drawn = []
        for _ in range(moments):
            common = super().uniform((1, numbers - self.own)).expand(images, -1)
            drawn.append(torch.cat((common, super().uniform((images, self.own))), 1))
        return torch.stack(drawn, 1)


@pytest.fixture
def square_task():
    """The official code cannot tile 12 x 12 pixels with its 5 x 5 bumps, so these images have 15 x 15."""
    generator = torch.Generator().manual_seed(3)
    x = (torch.rand((24, 3, 15, 15), generator=generator) * 1.2 - 0.1).clamp(0, 1)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(392, 10))
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
        net[-1].bias.sub_(net(torch.rand((256, 3, 15, 15), generator=generator)).mean(0))
    y = net(x).argmax(1)
    y[:3] = (y[:3] + 1) % 10
    return net, x, y


@pytest.mark.parametrize(("norm", "eps", "own", "restarts"), SQUARE)
def test_square_breaks_the_same_images_in_the_same_way(square_task, counted, monkeypatch, norm, eps, own, restarts):
    net, x, y = square_task
    monkeypatch.setattr(square, "BLOCK", 1)  # The official code draws as it goes.
    settings = {"n_queries": 200, "n_restarts": restarts, "resc_schedule": False, "p_init": 0.8}
    theirs = official_square(net, norm=OFFICIAL_NORM[norm], eps=eps, seed=11, **settings)
    expected = theirs.perturb(x.clone(), y.clone()).detach()
    attack = Square(Square.Params(queries=200, restarts=restarts))
    ours = attack.run(counted(net, 24), x, y, ThreatModel(norm=norm, eps=eps), Budget(), Shared(11, own))
    broken = net(expected).argmax(1) != y
    assert torch.equal(net(ours).argmax(1) != y, broken)
    assert 3 < broken.sum() < 24
    assert same(ours[broken], expected[broken])  # The official code returns the others clean.


def test_square_in_l1_breaks_most_images_in_the_same_way(square_task, counted, monkeypatch):
    """The published code scales the change of a window to norm 1 also where it is only a rounding error of its own."""
    net, x, y = square_task
    monkeypatch.setattr(square, "BLOCK", 1)
    theirs = official_square(net, norm="L1", eps=2.0, seed=11, n_queries=200, resc_schedule=False)
    expected = theirs.perturb(x.clone(), y.clone()).detach()
    attack = Square(Square.Params(queries=200))
    ours = attack.run(counted(net, 24), x, y, ThreatModel(norm="l1", eps=2.0), Budget(), Shared(11, 3))
    mostly_same(net, y, ours, expected)
