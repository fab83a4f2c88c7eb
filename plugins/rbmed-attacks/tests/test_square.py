"""Square: scores only, for every shape of image, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rbmed_attacks.square import Square, _bump
from robustbench_med import Budget, Stream, TargetModel, ThreatModel
from robustbench_med.errors import BudgetExceeded

NORMS = [("linf", 0.02), ("l2", 0.5), ("l1", 6.0)]


def stream(n):
    return Stream.named("attack", 0, torch.arange(n))


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("classes", [2, 3, 7, 10])
def test_single_images_of_few_and_many_classes(convnet, images, counted, classes, norm, eps, stop):
    net, x = convnet(classes), images(1)
    y, threat = net(x).argmax(1), ThreatModel(norm=norm, eps=8 * eps)
    model = counted(net, 1, stop)
    adv = Square(Square.Params(queries=60)).run(model, x, y, threat, Budget(), stream(1))
    threat.check(adv, x)
    assert (net(adv).argmax(1) != y).all()
    assert model.most["gradients"] == 0


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 1, 1), (3, 4, 9), (2, 13, 6)])
def test_images_of_any_shape(shape, norm, eps):
    x = torch.rand((4, *shape), generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3))
    asked = []

    class Asked(TargetModel):
        def forward(self, images):
            assert not torch.is_grad_enabled()
            asked.append(images)
            return net(images)

    threat = ThreatModel(norm=norm, eps=eps)
    adv = Square(Square.Params(queries=30)).run(Asked(), x, torch.tensor([0, 1, 2, 0]), threat, Budget(), stream(4))
    threat.check(adv, x)
    assert len(asked) == 31
    for images in asked:
        threat.check(images, x)


@pytest.mark.parametrize(("norm", "eps"), NORMS)
def test_broken_images_leave_the_batch_and_restarts_break_more(convnet, images, counted, norm, eps):
    net, x = convnet(3), images(30)
    y = net(x).argmax(1)
    y[:2] = (y[:2] + 1) % 3
    threat, broken = ThreatModel(norm=norm, eps=eps), {}
    for restarts in (1, 3):
        model = counted(net, 30)
        attack = Square(Square.Params(queries=30, restarts=restarts))
        adv = attack.run(model, x, y, threat, Budget(), stream(30))
        assert torch.equal(adv[:2], x[:2])
        broken[restarts] = net(adv).argmax(1) != y
        assert (model.forwards[:2] == 1).all()
        assert (model.forwards[~broken[restarts]] == 1 + restarts * 31).all()
        assert model.forwards[broken[restarts]].float().mean() < 20 * restarts
    assert 2 < broken[1].sum() < broken[3].sum()
    assert broken[3][broken[1]].all()


@pytest.mark.parametrize(("norm", "eps"), NORMS)
def test_more_queries_never_lower_the_margin(convnet, images, counted, norm, eps):
    net, x = convnet(3), images(10)
    y, threat = net(x).argmax(1), ThreatModel(norm=norm, eps=eps)
    margins = []
    for queries in (1, 20, 150):
        attack = Square(Square.Params(queries=queries))
        logits = net(attack.run(counted(net, 10, stop=False), x, y, threat, Budget(), stream(10)))
        wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        margins.append(wrong - logits.gather(1, y[:, None])[:, 0])
    assert (margins[0] <= margins[1] + 1e-6).all()
    assert (margins[1] < margins[2] - 1e-6).all()


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("stop", [True, False])
def test_results_do_not_depend_on_the_batch(convnet, images, counted, norm, eps, stop):
    net, x = convnet(3), images(9)
    y, threat = net(x).argmax(1), ThreatModel(norm=norm, eps=eps)
    attack = Square(Square.Params(queries=70, restarts=2))  # More than one block of random numbers.

    def run(rows):
        part = Stream.named("attack", 0, torch.tensor(rows))
        return attack.run(counted(net, len(rows), stop), x[rows], y[rows], threat, Budget(), part)

    whole = run(list(range(9)))
    assert torch.equal(whole, run(list(range(9))))
    split = torch.cat([run([0]), run([1, 2, 3]), run([4, 5, 6, 7, 8])])
    torch.testing.assert_close(whole, split, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("limit", [3, 50, 250])
def test_the_budget_is_kept_and_used(convnet, images, counted, limit, stop):
    net, x = convnet(3), images(4)
    model = counted(net, 4, stop)
    attack = Square(Square.Params(queries=100, restarts=2))
    attack.run(model, x, net(x).argmax(1), ThreatModel(eps=1e-5), Budget(queries=limit), stream(4))
    assert model.most["queries"] == min(limit, 2 * 101 + int(stop))


def test_no_budget_for_a_proposal(convnet, images, counted):
    for queries in (0, 1, 2):
        with pytest.raises(BudgetExceeded, match="does not allow one proposal"):
            Square().run(
                counted(convnet(2), 2),
                images(2),
                torch.tensor([0, 1]),
                ThreatModel(),
                Budget(queries=queries),
                stream(2),
            )


@pytest.mark.parametrize("side", [1, 2, 3, 8, 11])
def test_bumps_have_norm_one_and_two_signs(side):
    for norm, power in (("l2", 2), ("l1", 1)):
        bump = _bump(side, norm)
        assert bump.norm(p=power).item() == pytest.approx(1, abs=1e-5)
        assert (bump[: side // 2] > 0).all()
        assert (bump[side // 2 :] < 0).all()
