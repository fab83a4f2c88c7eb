"""Images are given up only where their progress would not reach a wrong answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rbmed_attacks.apgd import APGD
from rbmed_attacks.autoattack import AutoAttack
from rbmed_attacks.fab import FAB
from rbmed_attacks.giving_up import Reach, looks
from rbmed_attacks.losses import cross_entropy, level, logistic
from rbmed_attacks.square import Square
from robustbench_med import Budget, Stream, ThreatModel, margin


def test_the_pace_and_the_distance_decide():
    start = torch.tensor([-10.0, -10.0, -10.0, -10.0, -torch.inf, -10.0])
    reach = Reach(start, 100)
    # At twice its pace, 6 in 20 steps, the first would be 48 further; the third has come near, but stopped.
    assert not reach.lost(torch.tensor([-4.0, -9.9, -1.9, -9.0, -3.0, -torch.inf]), 20)[0]
    after = torch.tensor([-3.0, -9.9, -1.9, -8.0, -3.0, -3.0])
    assert reach.lost(after, 40).tolist() == [False, True, False, True, False, False]
    reach.keep(torch.tensor([0, 3]))
    assert reach.lost(torch.tensor([-3.0, -3.0]), 60).tolist() == [True, False]


def test_runs_that_are_short_are_not_cut():
    assert [looks(steps, 10) for steps in (1, 10, 11, 100)] == [(), (), (10,), (10, 20, 40, 80)]


@pytest.mark.parametrize("classes", [2, 5])
def test_levels_are_at_least_0_where_the_answer_is_wrong_and_keep_the_order(classes):
    logits = torch.randn((200, classes), generator=torch.Generator().manual_seed(0)) * 3
    y = torch.arange(200) % classes
    margins, wrong = margin(logits, y), logits.argmax(1) != y
    for name, values in (("ce", cross_entropy(logits, y)), ("logistic", logistic(margins)), ("margin", margins)):
        levels = level(name, values, True, classes)
        assert (levels[wrong] >= -1e-5).all()
        assert torch.equal(levels[values.argsort()], levels[values.argsort()].sort().values)
    assert torch.equal(level("auto", margins, True, 2), margins)
    torch.testing.assert_close(level("ce", torch.tensor([math.log(2)]), True, 2), torch.zeros(1), rtol=0, atol=1e-6)


class Rounded(nn.Module):
    """A net whose gradient is masked: it sees images rounded to few levels."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net((x * 16).round() / 16)
        return logits


def square(known: float | None) -> Square:
    """Square on 32 images of which other attacks have found these margins."""
    attack = Square(Square.Params(queries=1000))
    attack.known = None if known is None else torch.full((32,), known)
    return attack


ATTACKS = {
    "apgd-ce": lambda stop: APGD(APGD.Params(loss="ce", stop=stop)),
    "apgd-margin": lambda stop: APGD(APGD.Params(loss="margin", stop=stop)),
    "apgd-t": lambda stop: APGD(APGD.Params(targeted=True, loss="dlr", stop=stop)),
    "fab": lambda stop: FAB(FAB.Params(stop=stop)),
    "fab-t": lambda stop: FAB(FAB.Params(targeted=True, stop=stop)),
    "square": lambda stop: square(-1e-3 if stop == "early" else None),
}


def spent_and_broken(attack, net, x, y, counted, eps):
    model, n = counted(net, len(x)), len(x)
    adv = attack.run(model, x, y, ThreatModel(eps=eps), Budget(), Stream.named("attack", 0, torch.arange(n)))
    return model, net(adv).argmax(1) != y


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("eps", [0.004, 0.02])
def test_the_same_images_break_for_fewer_passes(convnet, images, counted, name, eps):
    net, x = convnet(5, scale=4.0), images(32)
    y = net(x).argmax(1)
    full, broken = spent_and_broken(ATTACKS[name]("auto"), net, x, y, counted, eps)
    model, early = spent_and_broken(ATTACKS[name]("early"), net, x, y, counted, eps)
    assert broken.sum() > 0
    assert torch.equal(early, broken)
    assert (model.forwards <= full.forwards).all()
    if eps == 0.004:
        assert model.forwards[~broken].float().mean() < 0.8 * full.forwards[~broken].float().mean()


def test_square_goes_on_where_no_other_attack_did_better(convnet, images, counted):
    net, x = convnet(5), images(32)
    y = net(x).argmax(1)
    full, broken = spent_and_broken(square(None), net, x, y, counted, 0.004)
    behind, _ = spent_and_broken(square(-100.0), net, x, y, counted, 0.004)
    assert not broken.all()
    assert torch.equal(behind.forwards, full.forwards)


def test_a_masked_gradient_does_not_end_the_search_that_needs_none(convnet, images, counted):
    net, x = Rounded(convnet(5)), images(32)
    y = net(x).argmax(1)
    found = [
        spent_and_broken(
            AutoAttack(AutoAttack.Params(steps=20, queries=1000, version=version)), net, x, y, counted, 0.06
        )[1]
        for version in ("standard", "early")
    ]
    assert found[0].sum() > 3
    assert torch.equal(*found)


def test_where_a_wrong_answer_proves_nothing_every_run_is_finished(convnet, images, counted):
    net, x = convnet(5), images(8)
    y, threat = net(x).argmax(1), ThreatModel(eps=0.004)
    for name in ("apgd-ce", "fab"):
        results = [
            ATTACKS[name](stop).run(
                counted(net, 8, stop=False), x, y, threat, Budget(), Stream.named("attack", 0, torch.arange(8))
            )
            for stop in ("auto", "early")
        ]
        assert torch.equal(*results)
