"""FAB: steps to a hyperplane, what a step costs, which image is returned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rbmed_attacks.fab import FAB
from rbmed_attacks.norms import to_plane
from robustbench_med import Budget, Stream, TargetModel, ThreatModel
from robustbench_med.errors import BudgetExceeded, UsageError

NORMS = [("linf", 0.01), ("l2", 0.15), ("l1", 1.0)]


def stream(n):
    return Stream.named("attack", 0, torch.arange(n))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("spread", [1, 6], ids=["inner", "edges"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_steps_reach_the_plane_inside_the_box_and_no_shorter_one_does(norm, spread, share):
    generator = torch.Generator().manual_seed(1)
    x = ((torch.rand((40, 300), generator=generator) - 0.5) * spread + 0.5).clamp(0, 1)
    slope = torch.randn((40, 300), generator=generator) ** 3
    sign = torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0)
    room = torch.where(slope * sign[:, None] > 0, x, 1 - x)
    height = share * sign * (slope.abs() * room).sum(1)
    step = to_plane(norm, x, slope, height)
    assert (x + step).min() >= -1e-6
    assert (x + step).max() <= 1 + 1e-6
    torch.testing.assert_close((slope.double() * step).sum(1), -height.double(), rtol=1e-4, atol=0)
    # The shortest step treats alike all pixels that are not at their limit, and wastes no pixel.
    free, moved = step.abs() < room - 1e-6, step.abs() > 1e-7
    assert (step * slope * sign[:, None] <= 1e-9).all()
    level = {"linf": step.abs(), "l2": step.abs() / slope.abs()}.get(norm)
    if level is None:
        steepest_left = torch.where(free, slope.abs(), 0).amax(1)
        flattest_used = torch.where(moved, slope.abs(), torch.inf).amin(1)
        assert (steepest_left <= flattest_used).all()
    else:
        free &= slope.abs() > 1e-3
        highest = torch.where(free, level, 0).amax(1)
        assert ((highest[:, None] - level)[free] <= 1e-3 * highest.max()).all()
        assert (level[~free & (slope.abs() > 1e-3)] <= highest.max() * 1.001).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_steps_go_as_far_as_they_can_and_nowhere_without_a_slope(norm):
    x = torch.tensor([[0.2, 0.9, 0.5], [0.2, 0.9, 0.5]])
    slope = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 0.0]])
    step = to_plane(norm, x, slope, torch.tensor([50.0, 1.0]))
    torch.testing.assert_close(step, torch.tensor([[-0.2, 0.1, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("classes", [2, 3, 7, 10])
def test_single_images_of_few_and_many_classes(convnet, images, counted, classes, norm, eps, stop, targeted):
    net, x = convnet(classes), images(1)
    y, threat = net(x).argmax(1), ThreatModel(norm=norm, eps=20 * eps)
    attack = FAB(FAB.Params(steps=8, restarts=2, targeted=targeted))
    adv = attack.run(counted(net, 1, stop), x, y, threat, Budget(), stream(1))
    threat.check(adv, x)
    assert (net(adv).argmax(1) != y).all()


@pytest.mark.parametrize(("norm", "eps"), NORMS)
def test_images_broken_within_eps_leave_the_batch_and_the_others_pay_in_full(convnet, images, counted, norm, eps):
    net, x = convnet(4), images(20)
    y = net(x).argmax(1)
    y[:2] = (y[:2] + 1) % 4
    model, threat = counted(net, 20), ThreatModel(norm=norm, eps=eps)
    adv = FAB(FAB.Params(steps=15)).run(model, x, y, threat, Budget(), stream(20))
    threat.check(adv, x)
    broken = net(adv).argmax(1) != y
    assert 2 < broken.sum() < 20
    assert torch.equal(adv[:2], x[:2])
    assert (model.forwards[:2] == 1).all()
    assert (model.gradients[~broken] == 15 * 3).all()  # K - 1 backward passes a step
    assert (model.forwards[~broken] == 1 + 15 * 2).all()
    assert model.forwards[broken].float().mean() < 20
    finished = FAB(FAB.Params(steps=15, stop="never")).run(counted(net, 20), x, y, threat, Budget(), stream(20))
    assert torch.equal(net(finished).argmax(1) != y, broken)
    assert (threat.distance(finished, x) <= threat.distance(adv, x) + 1e-6)[broken].all()
    # The others end at the rim of the ball, on the way to the boundary.
    assert (threat.distance(adv, x) >= 0.9 * eps)[~broken].all()


def test_targets_are_tried_in_turn(convnet, images, counted):
    net, x = convnet(7), images(12)
    y, threat = net(x).argmax(1), ThreatModel(eps=1e-4)
    for asked, tried in ((9, 6), (2, 2)):
        model = counted(net, 12)
        FAB(FAB.Params(steps=3, targeted=True, n_targets=asked)).run(model, x, y, threat, Budget(), stream(12))
        assert (model.gradients == 3 * tried).all()


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("limit", [{"gradients": 1}, {"gradients": 7}, {"queries": 3}, {"queries": 30}])
def test_the_budget_is_kept_and_used(convnet, images, counted, limit, targeted, stop):
    net, x = convnet(4), images(5)
    model = counted(net, 5, stop)
    attack = FAB(FAB.Params(restarts=3, targeted=targeted))
    attack.run(model, x, net(x).argmax(1), ThreatModel(eps=1e-5), Budget(**limit), stream(5))
    for kind, most in limit.items():
        assert most - 3 < model.most[kind] <= most


def test_no_budget_for_a_step(convnet, images, counted):
    for budget in (Budget(queries=2), Budget(gradients=0), Budget(queries=0)):
        with pytest.raises(BudgetExceeded, match="does not allow one"):
            FAB().run(counted(convnet(2), 2), images(2), torch.tensor([0, 1]), ThreatModel(), budget, stream(2))


@pytest.mark.parametrize(("norm", "eps"), NORMS)
def test_the_scale_of_the_logits_does_not_matter(convnet, images, counted, norm, eps):
    x, found = images(12), []
    for scale in (1e-6, 1.0, 1e6):
        net = convnet(3, scale=scale)
        y = net(x).argmax(1)
        attack = FAB(FAB.Params(steps=10, stop="never"))
        found.append(attack.run(counted(net, 12), x, y, ThreatModel(norm=norm, eps=30 * eps), Budget(), stream(12)))
        assert (net(found[-1]).argmax(1) != y).all()
    small, one, large = (ThreatModel(norm=norm).distance(adv, x) for adv in found)
    # Rounding may lead an image to another part of the boundary.
    for ratio in (small / one, large / one):
        assert (ratio - 1).abs().median() < 1e-4
        assert (ratio - 1).abs().mean() < 0.05


def test_where_a_wrong_answer_proves_nothing_the_margin_counts(convnet, images, counted):
    net, x = convnet(3), images(20)
    y, threat = net(x).argmax(1), ThreatModel(norm="l2", eps=0.4)
    attack = FAB(FAB.Params(steps=15))

    def margin(adv):
        logits = net(adv)
        return logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]

    near = attack.run(counted(net, 20), x, y, threat, Budget(), stream(20))
    far = attack.run(counted(net, 20, stop=False), x, y, threat, Budget(), stream(20))
    threat.check(far, x)
    broken = margin(near) > 0
    assert broken.float().mean() > 0.8
    assert (margin(far)[broken] > 0).all()
    assert margin(far)[broken].mean() > 3 * margin(near)[broken].mean()


@pytest.mark.parametrize("stop", [True, False])
def test_restarts_do_not_depend_on_the_batch(convnet, images, counted, stop):
    net, x = convnet(3), images(8)
    y, threat = net(x).argmax(1), ThreatModel(eps=0.004)
    attack = FAB(FAB.Params(steps=5, restarts=3))

    def run(rows):
        part = Stream.named("attack", 0, torch.tensor(rows))
        return attack.run(counted(net, len(rows), stop), x[rows], y[rows], threat, Budget(), part)

    whole = run(list(range(8)))
    split = torch.cat([run([0]), run([1, 2, 3]), run([4, 5, 6, 7])])
    torch.testing.assert_close(whole, split, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_model_without_gradient_is_named(convnet, images, frozen):
    class Detached(TargetModel):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.detach())

    net = convnet(2).requires_grad_(not frozen)
    with pytest.raises(UsageError, match="gives no gradient"):
        FAB().run(Detached(net), images(2), torch.tensor([0, 1]), ThreatModel(), Budget(), stream(2))
