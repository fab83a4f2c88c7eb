"""The ensemble runs the right attacks for few classes, says which, and is no weaker than the published one."""

from __future__ import annotations

import pytest
import torch

from rbmed_attacks.apgd import APGD
from rbmed_attacks.autoattack import AutoAttack
from robustbench_med import Budget, Stream, ThreatModel
from robustbench_med.errors import BudgetExceeded


def stream(n):
    return Stream.named("attack", 0, torch.arange(n))


def quick(**settings):
    return AutoAttack(AutoAttack.Params(**{"steps": 10, "queries": 30, **settings}))


PARTS = {
    2: ["apgd-margin", "apgd-ce", "fab", "square"],
    3: ["apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square"],
    4: ["apgd-ce", "apgd-t", "fab-t", "square"],
    9: ["apgd-ce", "apgd-t", "fab-t", "square"],
    10: ["apgd-ce", "apgd-t", "fab-t", "square"],
}


@pytest.mark.parametrize("classes", PARTS)
def test_the_parts_fit_the_number_of_classes(classes):
    parts = AutoAttack().parts(classes, "linf")
    assert list(parts) == PARTS[classes]
    assert parts["square"].params.queries == 5000
    assert all(part.params.steps == 100 for name, part in parts.items() if name != "square")
    if classes > 2:
        assert parts["apgd-t"].params.loss == ("margin" if classes == 3 else "dlr")
        assert parts["apgd-t"].params.n_targets == parts["fab-t"].params.n_targets == 9
    rand = AutoAttack(AutoAttack.Params(version="rand")).parts(classes, "linf")
    assert list(rand) == ["apgd-ce", "apgd-margin" if classes == 2 else "apgd-dlr"]


def test_in_l1_auto_pgd_restarts_as_published():
    parts = AutoAttack().parts(10, "l1")
    assert (parts["apgd-ce"].params.restarts, parts["apgd-t"].params.n_targets) == (5, 5)


@pytest.mark.parametrize(
    ("settings", "classes", "norm", "name"),
    [
        ({}, 2, "linf", "aa-adapted-K2"),
        ({}, 9, "l2", "aa-adapted-K9"),
        ({}, 10, "linf", "aa-standard"),
        ({}, 1000, "l2", "aa-standard"),
        ({"version": "early"}, 10, "linf", "aa-early-adapted-K10"),
        ({}, 10, "l1", "aa-adapted-K10-l1"),
        ({"steps": 50}, 10, "linf", "aa-custom-K10-50-5000"),
        ({"queries": 100}, 2, "linf", "aa-custom-K2-100-100"),
        ({"version": "rand"}, 10, "linf", "aa-rand"),
        ({"version": "rand"}, 2, "linf", "aa-rand-adapted-K2"),
        ({"version": "rand", "queries": 9}, 10, "linf", "aa-rand"),
        ({"version": "rand", "steps": 9}, 10, "linf", "aa-rand-custom-K10-9"),
    ],
)
def test_the_name_says_what_runs(settings, classes, norm, name):
    assert AutoAttack(AutoAttack.Params(**settings)).variant(classes, norm) == name


def test_random_models_get_the_version_for_them(convnet, images, counted):
    net, x = convnet(3), images(4)
    y = net(x).argmax(1)
    attack = quick()
    assert (attack.eot, quick(version="standard").eot) == (20, None)
    random = counted(net, 4, stop=False, draws=3)
    attack.run(random, x, y, ThreatModel(eps=0.01), Budget(), stream(4))
    assert attack.variant(3, "linf", random=True) == "aa-rand-custom-K3-10"
    assert (
        attack.variant(3, "linf") == quick(version="standard").variant(3, "linf", random=True) == "aa-custom-K3-10-30"
    )
    # A look, two parts of ten gradients and one more pass, and a look at what each of them found.
    assert random.most == {"queries": 3 * (1 + 2 * (11 + 1)), "gradients": 3 * 2 * 10}


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_is_at_least_as_strong_as_its_first_part(convnet, images, counted, classes, norm):
    net, x = convnet(classes), images(30)
    y = net(x).argmax(1)
    y[:2] = (y[:2] + 1) % classes
    threat = ThreatModel(norm=norm, eps={"linf": 0.006, "l2": 0.08, "l1": 0.8}[norm])
    attack, model = quick(), counted(net, 30)
    adv = attack.run(model, x, y, threat, Budget(), stream(30))
    threat.check(adv, x)
    name, first = next(iter(attack.parts(classes, norm).items()))
    alone = first.run(counted(net, 30), x, y, threat, Budget(), stream(30).fork(name))
    broken, by_first = net(adv).argmax(1) != y, net(alone).argmax(1) != y
    assert broken[by_first].all()
    assert 2 < broken.sum() < 30
    assert torch.equal(adv[:2], x[:2])
    assert (model.forwards[:2] == 1).all()
    assert model.forwards[by_first].max() < model.forwards[~broken].min()


def test_elsewhere_each_image_has_the_largest_margin_of_all_parts(convnet, images, counted):
    net, x = convnet(3), images(12)
    y = net(x).argmax(1)
    threat = ThreatModel(eps=0.005)

    def margin(images):
        logits = net(images)
        return logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]

    attack = quick()
    adv = attack.run(counted(net, 12, stop=False), x, y, threat, Budget(), stream(12))
    margins = [
        margin(part.run(counted(net, 12, stop=False), x, y, threat, Budget(), stream(12).fork(name)))
        for name, part in attack.parts(3, "linf").items()
    ]
    torch.testing.assert_close(margin(adv), torch.stack(margins).amax(0), rtol=0, atol=1e-5)
    assert (torch.stack(margins).argmax(0) > 0).any()  # The first part alone is not enough.


@pytest.mark.parametrize("stop", [True, False])
def test_a_small_budget_runs_the_first_parts_and_square_without_gradients(convnet, images, counted, stop):
    net, x = convnet(2), images(8)
    y = net(x).argmax(1)
    model = counted(net, 8, stop)
    quick().run(model, x, y, ThreatModel(eps=1e-4), Budget(gradients=10), stream(8))
    assert model.most["gradients"] == 10
    assert model.most["queries"] > 30  # Square went on when the gradients were spent.
    model = counted(net, 8, stop)
    quick().run(model, x, y, ThreatModel(eps=1e-4), Budget(queries=20), stream(8))
    assert 15 <= model.most["queries"] <= 20
    with pytest.raises(BudgetExceeded, match="does not allow"):
        quick().run(counted(net, 8, stop), x, y, ThreatModel(eps=1e-4), Budget(queries=4), stream(8))


def test_scaled_logits_do_not_fool_it_on_two_classes(convnet, images, counted):
    """Cross-entropy alone loses images to underflow at this scale; the ensemble does not."""
    x, net = images(40), convnet(2, scale=1000.0)
    y, threat = convnet(2)(x).argmax(1), ThreatModel(eps=0.012)

    def accuracy(attack, net):
        adv = attack.run(counted(net, 40), x, y, threat, Budget(), stream(40))
        return (net(adv).argmax(1) == y).float().mean().item()

    entropy = APGD(APGD.Params(loss="ce", steps=10))
    assert accuracy(quick(), net) <= accuracy(quick(), convnet(2)) <= accuracy(entropy, net) - 0.1


def test_breaks_what_the_published_ensemble_breaks(convnet, images, counted):
    official = pytest.importorskip("pyautoattack.autoattack")
    net, x, eps = convnet(10, scale=4.0), images(24), 0.004
    y = net(x).argmax(1)
    theirs = official.AutoAttack(net, norm="Linf", eps=eps, seed=1, version="custom", attacks=PARTS[10])
    theirs.apgd.n_restarts = theirs.fab.n_restarts = 1
    theirs.apgd.n_iter = theirs.apgd_targeted.n_iter = theirs.fab.n_iter = 20
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = 9
    theirs.square.n_queries = 100
    with torch.random.fork_rng():
        expected, _ = theirs.run_standard_evaluation(x, y)
    ours = quick(steps=20, queries=100).run(counted(net, 24), x, y, ThreatModel(eps=eps), Budget(), stream(24))
    by_them, by_us = net(expected).argmax(1) != y, net(ours).argmax(1) != y
    assert 4 < by_them.sum() < 24
    assert by_us.sum() >= by_them.sum()
    assert (by_us | ~by_them).float().mean() >= 0.95
