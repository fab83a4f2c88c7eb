"""HopSkipJump sees decisions only, and still comes close to the nearest error."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rbmed_attacks.hopskipjump import HopSkipJump
from robustbench_med import Budget, Stream, TargetModel, ThreatModel
from robustbench_med.errors import BudgetExceeded


class Decisions(TargetModel):
    """Answers with a one-hot vector: all that an attack can learn is the class."""

    def __init__(self, net, stop=True):
        super().__init__()
        self.net, self.stop_on_success = net, stop

    def forward(self, x):
        assert not torch.is_grad_enabled()
        logits = self.net(x)
        return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).float()


def stream(n):
    return Stream.named("attack", 0, torch.arange(n))


def linear(classes, norm):
    """A linear model, images in the middle of [0, 1], their labels and exact distances to an error."""
    generator = torch.Generator().manual_seed(classes)
    weight = torch.randn((classes, 48), generator=generator)
    x = 0.5 + 0.02 * torch.randn((30, 3, 4, 4), generator=generator)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, classes))
    with torch.no_grad():
        net[1].weight.copy_(weight)
        net[1].bias.copy_(-weight.sum(1) / 2)
    logits = net(x).detach()
    y = logits.argmax(1)
    slope = (weight[y][:, None] - weight[None]).norm(p=1 if norm == "linf" else 2, dim=2)
    distance = ((logits.gather(1, y[:, None]) - logits) / slope).scatter(1, y[:, None], torch.inf).amin(1)
    return net, x, y, distance


@pytest.mark.parametrize(("norm", "factor"), [("linf", 1.15), ("l2", 1.06)])
def test_breaks_a_linear_model_close_to_its_threshold(norm, factor):
    net, x, y, distance = linear(2, norm)
    for quantile in (0.3, 0.7):
        eps = distance.quantile(quantile).item()
        threat = ThreatModel(norm=norm, eps=eps)
        adv = HopSkipJump().run(Decisions(net), x, y, threat, Budget(), stream(30))
        threat.check(adv, x)
        broken = net(adv).argmax(1) != y
        assert broken[distance < eps / factor].all()
        assert not broken[distance > 1.0001 * eps].any()


def test_queries_are_counted_and_broken_images_leave(convnet, images, counted):
    net, x = convnet(3), images(20)
    y = net(x).argmax(1)
    y[0] = (y[0] + 1) % 3
    model = counted(net, 20)
    attack = HopSkipJump(HopSkipJump.Params(steps=50, max_queries=600))
    adv = attack.run(model, x, y, ThreatModel(eps=0.01), Budget(), stream(20))
    broken = net(adv).argmax(1) != y
    assert torch.equal(adv[0], x[0])
    assert model.forwards[0] == 1
    assert 2 < broken.sum() < 20
    assert 500 < model.forwards[~broken].min() <= model.forwards.max() <= 600
    assert model.forwards[broken].float().mean() < 450
    assert (model.gradients == 0).all()


def test_elsewhere_a_wrong_image_is_moved_to_the_rim(convnet, images, counted):
    """Where a wrong answer proves nothing, an image that just crossed the boundary is not enough."""
    net, x = convnet(3), images(20)
    y = net(x).argmax(1)
    threat = ThreatModel(norm="l2", eps=0.8)
    attack = HopSkipJump(HopSkipJump.Params(steps=4, samples=8))

    def margin_and_distance(stop):
        adv = attack.run(counted(net, 20, stop), x, y, threat, Budget(), stream(20))
        logits = net(adv)
        wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        return wrong - logits.gather(1, y[:, None])[:, 0], threat.distance(adv, x)

    (here, near), (there, far) = margin_and_distance(True), margin_and_distance(False)
    both = (here > 0) & (there > 0)
    assert both.sum() > 5
    assert (there[both] > here[both]).float().mean() > 0.8
    assert far[both].mean() > near[both].mean()


def test_an_image_without_a_wrong_neighbour_is_returned_as_it_is(images):
    class Constant(TargetModel):
        stop_on_success = True

        def forward(self, x):
            return torch.tensor([1.0, 0.0]).expand(len(x), 2)

    x = images(3)
    adv = HopSkipJump().run(Constant(), x, torch.zeros(3).long(), ThreatModel(eps=1.0), Budget(), stream(3))
    assert torch.equal(adv, x)


def test_a_budget_without_two_queries_is_refused(convnet, images, counted):
    with pytest.raises(BudgetExceeded, match="two queries"):
        HopSkipJump().run(
            counted(convnet(2), 2), images(2), torch.tensor([0, 1]), ThreatModel(), Budget(queries=1), stream(2)
        )


def test_a_random_model_is_queried_with_all_images_in_fresh_noise(convnet, images, counted):
    net, x = convnet(2), images(6)
    model = counted(net, 6, stop=False, draws=2)
    attack = HopSkipJump(HopSkipJump.Params(steps=2, samples=4, starts=4))
    attack.run(model, x, net(x).argmax(1), ThreatModel(eps=0.05), Budget(), stream(6))
    assert model.calls * 2 == model.most["queries"]
    assert (model.forwards == model.most["queries"]).all()
    # One look, four starts, the bisections, two steps, and the look at the rim.
    bisections = math.ceil(math.log2(x[0].numel()))
    assert model.calls == 1 + 4 + bisections + (4 + 8 + bisections) + (5 + 8 + bisections) + 1
