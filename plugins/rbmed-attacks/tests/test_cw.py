"""Carlini & Wagner's L2 attack: what it costs, which image is returned, logits of any scale."""

from __future__ import annotations

import pytest
import torch

from rbmed_attacks.cw import CW
from rbmed_attacks.fab import FAB
from robustbench_med import Budget, Stream, ThreatModel
from robustbench_med.errors import BudgetExceeded


def stream(n):
    return Stream.named("attack", 0, torch.arange(n))


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("classes", [2, 3, 7, 10])
def test_single_images_of_few_and_many_classes(convnet, images, counted, classes, stop):
    net, x = convnet(classes), images(1)
    y, threat = net(x).argmax(1), ThreatModel(norm="l2", eps=2.0)
    adv = CW(CW.Params(steps=20, searches=2)).run(counted(net, 1, stop), x, y, threat, Budget(), stream(1))
    threat.check(adv, x)
    assert (net(adv).argmax(1) != y).all()


def test_images_broken_within_eps_leave_the_batch_and_the_others_pay_in_full(convnet, images, counted):
    net, x = convnet(4), images(20)
    y = net(x).argmax(1)
    y[:2] = (y[:2] + 1) % 4
    model, threat = counted(net, 20), ThreatModel(norm="l2", eps=0.18)
    adv = CW(CW.Params(steps=20, searches=2)).run(model, x, y, threat, Budget(), stream(20))
    threat.check(adv, x)
    broken = net(adv).argmax(1) != y
    assert 2 < broken.sum() < 20
    assert torch.equal(adv[:2], x[:2])
    assert (model.gradients[:2] == 0).all()
    # K - 1 gradients to choose the class, and none for the last step of a search.
    assert (model.gradients[~broken] == 3 + 2 * 19).all()
    assert (model.forwards[~broken] == 1 + 1 + 2 * 20).all()
    assert model.forwards[broken].float().mean() < 35


def test_more_searches_come_nearer_and_close_to_fab(convnet, images, counted):
    net, x = convnet(10), images(20)
    x = 0.1 + 0.8 * x  # Pixels at the ends of [0, 1] hardly move in the attack's variables.
    y, threat, length = net(x).argmax(1), ThreatModel(norm="l2", eps=10), {}
    for searches in (1, 5):
        attack = CW(CW.Params(searches=searches, stop="never"))
        adv = attack.run(counted(net, 20), x, y, threat, Budget(), stream(20))
        assert (net(adv).argmax(1) != y).all()
        length[searches] = threat.distance(adv, x)
    fab = FAB(FAB.Params(steps=40, stop="never")).run(counted(net, 20), x, y, threat, Budget(), stream(20))
    assert length[1].mean() >= length[5].mean()
    assert (length[5] / threat.distance(fab, x)).mean() < 1.05


def test_the_scale_of_the_logits_does_not_matter(convnet, images, counted):
    x, lengths, threat = images(12), [], ThreatModel(norm="l2", eps=10)
    for scale in (1e-4, 1.0, 1e4):
        net = convnet(3, scale=scale)
        y = net(x).argmax(1)
        adv = CW(CW.Params(searches=2, stop="never")).run(counted(net, 12), x, y, threat, Budget(), stream(12))
        assert (net(adv).argmax(1) != y).all()
        lengths.append(threat.distance(adv, x).mean().item())
    assert max(lengths) < 1.02 * min(lengths)


def test_an_image_without_a_slope_harms_no_other(convnet, images, counted):
    net, x = convnet(2), images(3)

    class Flat(torch.nn.Module):
        def forward(self, x):
            return net(x) * torch.tensor([0.0, 1.0, 1.0])[-len(x) :, None]

    y = net(x).argmax(1)
    y[0] = 0  # A tie, which counts as class 0.
    threat = ThreatModel(norm="l2", eps=3)
    attack = CW(CW.Params(steps=20, searches=2, stop="never"))
    adv = attack.run(counted(Flat(), 3), x, y, threat, Budget(), stream(3))
    threat.check(adv, x)
    assert (net(adv).argmax(1) != y)[1:].all()


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("limit", [{"gradients": 1}, {"gradients": 25}, {"queries": 3}, {"queries": 40}])
def test_the_budget_is_kept_and_used(convnet, images, counted, limit, stop):
    net, x = convnet(4), images(5)
    model, threat = counted(net, 5, stop), ThreatModel(norm="l2", eps=1e-4)
    CW().run(model, x, net(x).argmax(1), threat, Budget(**limit), stream(5))
    for kind, most in limit.items():
        assert most - 5 < model.most[kind] <= most


def test_no_budget_for_a_step(convnet, images, counted):
    for budget in (Budget(queries=2), Budget(gradients=0), Budget(queries=0)):
        with pytest.raises(BudgetExceeded, match="does not allow one"):
            CW().run(counted(convnet(2), 2), images(2), torch.tensor([0, 1]), ThreatModel(norm="l2"), budget, stream(2))


def test_results_do_not_depend_on_the_batch(convnet, images, counted):
    net, x = convnet(3), images(8)
    y, threat = net(x).argmax(1), ThreatModel(norm="l2", eps=0.15)
    attack = CW(CW.Params(steps=15, searches=2))

    def run(rows):
        return attack.run(counted(net, len(rows)), x[rows], y[rows], threat, Budget(), stream(len(rows)))

    whole = run(list(range(8)))
    split = torch.cat([run([0]), run([1, 2, 3]), run([4, 5, 6, 7])])
    torch.testing.assert_close(whole, split, rtol=0, atol=1e-4)
