"""How the gradient attacks treat broken images, random target models, few classes and bad settings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from rbmed_attacks.apgd import APGD
from rbmed_attacks.gradients import differentiate
from rbmed_attacks.losses import untargeted, vote
from rbmed_attacks.pgd import FGSM, MIFGSM, PGD, LeeKim, MomentumStep
from robustbench_med import Budget, Stream, TargetModel, ThreatModel
from robustbench_med.errors import BadParameter, UsageError


def stream(n):
    return Stream.named("attack", 0, torch.arange(n))


@pytest.mark.parametrize(
    "attack", [APGD(APGD.Params(steps=30)), PGD(PGD.Params(steps=30)), MIFGSM(MIFGSM.Params(steps=30))]
)
def test_broken_images_leave_the_batch(convnet, images, counted, attack):
    net, x = convnet(3), images(20)
    y = net(x).argmax(1)
    y[:4] = (y[:4] + 1) % 3
    model = counted(net, 20)
    adv = attack.run(model, x, y, ThreatModel(eps=0.01), Budget(), stream(20))
    broken = net(adv).argmax(1) != y
    assert 4 < broken.sum() < 20
    assert torch.equal(adv[:4], x[:4])
    assert (model.forwards[:4] == 1).all()
    assert (model.gradients[:4] == 0).all()
    assert (model.forwards[~broken] == 1 + 31).all()
    assert (model.gradients[~broken] == 30).all()
    assert model.forwards[broken].float().mean() < 20


def test_images_stay_where_the_decision_is_not_the_deployed_one(convnet, images, counted):
    net, x = convnet(3), images(20)
    y = net(x).argmax(1)
    model = counted(net, 20, stop=False)
    attack, threat = APGD(APGD.Params(steps=30, loss="margin")), ThreatModel(eps=0.01)
    at_highest_loss = attack.run(model, x, y, threat, Budget(), stream(20))
    assert (model.forwards == 31).all()
    where_broken = attack.run(counted(net, 20), x, y, threat, Budget(), stream(20))

    def margin(images):
        logits = net(images)
        return logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]

    assert (margin(at_highest_loss) >= margin(where_broken) - 1e-5).all()
    assert (margin(at_highest_loss) - margin(where_broken)).max() > 1e-3


def test_targets_are_tried_until_one_breaks(convnet, images, counted):
    net, x = convnet(5), images(20)
    y = net(x).argmax(1)
    model = counted(net, 20)
    attack = APGD(APGD.Params(steps=10, targeted=True))
    adv = attack.run(model, x, y, ThreatModel(eps=0.006), Budget(), stream(20))
    broken = net(adv).argmax(1) != y
    assert 0 < broken.sum() < 20
    assert (model.gradients[~broken] == 4 * 10).all()  # There are 4 wrong classes, not the 9 of the default.
    few = counted(net, 20)
    APGD(APGD.Params(steps=10, targeted=True, n_targets=2)).run(few, x, y, ThreatModel(eps=0.006), Budget(), stream(20))
    assert few.gradients.max() == 2 * 10


@pytest.mark.parametrize("settings", [{}, {"targeted": True}, {"loss": "dlr"}])
def test_a_random_model_is_judged_by_its_answers(convnet, images, settings):
    """Each iterate is evaluated once; the image returned is the one at the highest loss ever answered."""
    net, x = convnet(4), images(6)
    y = net(x).argmax(1)
    asked, answered = [], []

    class Noisy(TargetModel):
        def __init__(self):
            super().__init__()
            self.generator = torch.Generator().manual_seed(0)

        def forward(self, x):
            logits = net(x + 0.3 * torch.randn(x.shape, generator=self.generator))
            asked.append(x.detach())
            answered.append(logits.detach())
            return logits

    attack = APGD(APGD.Params(steps=12, n_targets=1, **settings))
    adv = attack.run(Noisy(), x, y, ThreatModel(eps=0.05), Budget(), stream(6))
    if settings.get("targeted"):
        asked, answered = asked[1:], answered[1:]  # The first pass only ranks the targets.
    assert len(asked) == 13
    # What is returned was evaluated, every image in one of the passes.
    hit = torch.stack([(a == adv).flatten(1).all(1) for a in asked])
    assert hit.any(0).all()
    if not settings:
        losses = torch.stack([nn.functional.cross_entropy(a, y, reduction="none") for a in answered])
        assert torch.equal(hit.float().argmax(0), losses.argmax(0))


def test_dlr_says_how_many_classes_it_needs(convnet, images, counted):
    x, y = images(2), torch.tensor([0, 1])
    dlr, targeted = APGD(APGD.Params(loss="dlr")), APGD(APGD.Params(loss="dlr", targeted=True))
    with pytest.raises(BadParameter, match="loss 'dlr' needs at least 3 classes, the model has 2; use 'margin'"):
        dlr.run(counted(convnet(2), 2), x, y, ThreatModel(), Budget(), stream(2))
    with pytest.raises(BadParameter, match="targeted loss 'dlr' needs at least 4 classes, the model has 3"):
        targeted.run(counted(convnet(3), 2), x, y, ThreatModel(), Budget(), stream(2))


@pytest.mark.parametrize(
    ("attack", "settings", "message"),
    [
        (APGD, {"loss": "ce", "targeted": True}, "no targeted form"),
        (APGD, {"steps": 0}, "greater than or equal to 1"),
        (APGD, {"loss": "hinge"}, "'auto', 'ce', 'bce', 'dlr', 'margin', 'vote' or 'logistic'"),
        (PGD, {"step_size": "1/0"}, "'1/0' is not a number or a fraction"),
        (PGD, {"step_size": "fast"}, "valid number"),
        (PGD, {"step_size": "-1/255"}, "greater than 0"),
        (PGD, {"step_size": "inf"}, "finite"),
        (PGD, {"restarts": 2, "random_start": False}, "need random_start=true"),
        (FGSM, {"steps": 3}, "Extra inputs are not permitted"),
    ],
)
def test_bad_settings_are_refused(attack, settings, message):
    with pytest.raises(ValidationError, match=message):
        attack.Params(**settings)


def test_step_size_is_read_as_a_fraction():
    assert PGD.Params(step_size="1/255").step_size == 1 / 255
    assert PGD.Params(step_size="0.003").step_size == 0.003


class Detached(TargetModel):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.detach())


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("attack", [APGD(), PGD(), FGSM(), MIFGSM(), LeeKim()])
def test_a_model_without_gradient_is_named(convnet, images, attack, frozen):
    net = convnet(2).requires_grad_(not frozen)
    with pytest.raises(UsageError, match="gives no gradient"):
        attack.run(Detached(net), images(2), torch.tensor([0, 1]), ThreatModel(), Budget(), stream(2))


def test_an_undefined_gradient_does_not_spread(convnet, images, counted):
    class RootFirst(nn.Module):
        """The square root's slope at 0 is infinite, and its product with the 0 in front of it undefined."""

        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x + 0 * x.sqrt())

    x = images(8)
    assert (x == 0).any()
    net = RootFirst(convnet(2))
    y = net(x).argmax(1)
    adv = APGD(APGD.Params(steps=20)).run(counted(net, 8), x, y, ThreatModel(eps=0.1), Budget(), stream(8))
    ThreatModel(eps=0.1).check(adv, x)
    assert (net(adv).argmax(1) != y).all()


def test_lee_kim_takes_the_published_steps(convnet, images):
    """200 sign steps of 0.007 at eps 8/255, from the image, without leaving the ball."""
    net, x, asked = convnet(3), images(3), []

    class Recording(TargetModel):
        def each(self, x):
            asked.append(x.detach())
            return net(x).unsqueeze(1)

    assert LeeKim().eot == 20
    LeeKim().run(Recording(), x, net(x).argmax(1), ThreatModel(eps=8 / 255), Budget(), stream(3))
    assert len(asked) == 201
    assert torch.equal(asked[0], x)
    first = (asked[1] - x).abs()
    assert first.max().item() == pytest.approx(0.007, abs=1e-6)
    assert ((asked[10] - x).abs() <= 8 / 255 + 1e-6).all()


def test_momentum_follows_the_sum_of_scaled_gradients(images):
    """MI-FGSM's second step goes where the decayed first and the second gradient lead together."""
    x = images(2).clamp(0.3, 0.7)
    state = SimpleNamespace(threat=ThreatModel(norm="l2", eps=1.0), x=x, now=x)
    step = MomentumStep(state, 0.01, 0.5)
    first, second = torch.randn((2, *x.shape), generator=torch.Generator().manual_seed(0))
    for state.grad in (first, 100 * second):
        before, state.now = state.now, step.next(state)

    def scaled(gradient):
        return gradient / gradient.abs().flatten(1).mean(1).view(-1, 1, 1, 1)

    moved, expected = state.now - before, 0.5 * scaled(first) + scaled(second)
    assert nn.functional.cosine_similarity(moved.flatten(1), expected.flatten(1)).min() > 0.999
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), torch.full((2,), 0.01), rtol=1e-3, atol=0)


class Committee(TargetModel):
    """Each draw is answered by one of several nets, chosen at random."""

    def __init__(self, nets, shares, draws, seed):
        super().__init__()
        self.nets, self.shares, self.draws = nets, torch.tensor(shares), draws
        self.generator = torch.Generator().manual_seed(seed)

    def each(self, x):
        chosen = torch.multinomial(self.shares, len(x) * self.draws, replacement=True, generator=self.generator)
        answers = torch.stack([net(x) for net in self.nets], 1)
        return answers.gather(1, chosen.view(len(x), -1, 1).expand(-1, -1, answers.shape[2]))

    def forward(self, x):
        return self.each(x).mean(1)


def test_gradients_average_the_loss_over_the_draws(convnet, images):
    """EOT: not the loss of the mean answer, whose gradient differs."""
    nets, x, y = [convnet(3), convnet(3, scale=3.0)], images(4), torch.tensor([0, 1, 2, 0])
    objective = untargeted("ce")
    logits, loss, gradient = differentiate(Committee(nets, [0.5, 0.5], 8, 1), x, lambda each: objective(each, y, y))
    x.requires_grad_()
    each = Committee(nets, [0.5, 0.5], 8, 1).each(x)
    losses = torch.stack([nn.functional.cross_entropy(each[:, d], y, reduction="none") for d in range(8)])
    (expected,) = torch.autograd.grad(losses.mean(0).sum(), x)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(loss, losses.mean(0).detach())
    torch.testing.assert_close(logits, each.mean(1).detach())
    of_the_mean = nn.functional.cross_entropy(each.mean(1), y, reduction="none").detach()
    assert (loss - of_the_mean).abs().max() > 0.01


def test_the_vote_counts_the_nearest_draws_and_none_that_is_won():
    margins = torch.tensor([[-9.0, -1.0, 5.0, -2.0], [1.0, 2.0, 3.0, -7.0], [-4.0, -3.0, -2.0, -1.0]])
    assert vote(margins).tolist() == [-1.0, 0.0, -2.0]
    one = torch.tensor([[-3.0], [0.5]])
    assert vote(one).tolist() == [-3.0, 0.0]
    assert vote(10 * margins).tolist() == [-10.0, 0.0, -20.0]


@pytest.mark.parametrize("attack", [APGD, PGD])
def test_the_vote_turns_more_majorities_than_the_mean(convnet, images, attack):
    """One net answers 60 % of the draws and decides the vote; the other is surer of itself and fills the mean."""
    surer = convnet(2, scale=5.0)
    nets, x = [convnet(2), lambda x: surer(x.flip(-1))], images(60)
    y = nets[0](x).argmax(1)

    def right(loss):
        made = attack(attack.Params(steps=20, loss=loss))
        adv = made.run(Committee(nets, [0.6, 0.4], 15, 1), x, y, ThreatModel(eps=0.015), Budget(), stream(60))
        fresh = Committee(nets, [0.6, 0.4], 101, 2).each(adv).argmax(2)
        return (fresh.mode(1).values == y).sum().item()

    by_vote, by_mean, by_entropy = right("vote"), right("margin"), right("ce")
    assert by_vote <= min(by_mean, by_entropy) - 10  # 33 to 36 of 60 majorities are left against 51 or 52
