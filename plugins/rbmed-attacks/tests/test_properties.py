"""What holds for every attack, for every norm it names, few classes and many, one image or several."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

import pytest
import torch
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from robustbench_med import Budget, Stream, ThreatModel, seed_of
from robustbench_med.errors import BudgetExceeded

#: Those of a family of changes that is no ball have tests of their own.
SPECS = {
    spec.name: spec
    for entry in entry_points(group="rbmed")
    if entry.dist is not None and entry.dist.name == "rbmed-attacks"
    for spec in getattr(entry.load(), "rbmed_attacks", tuple)()
    if not set(spec.norms) & {"corruption", "acquisition"}
}
#: Settings of each attack that are quick to run; the property tests draw one of them.
QUICK = {
    "autoattack": [{"steps": 2, "queries": 4}],
    "apgd": [
        {"steps": 5},
        {"steps": 3, "targeted": True, "loss": "margin", "n_targets": 3},
        {"steps": 4, "loss": "vote"},
    ],
    "pgd": [{"steps": 3, "restarts": 2}, {"steps": 4, "step_size": "1/255", "loss": "ce"}, {"random_start": False}],
    "lee-kim": [{"steps": 4}],
    "mifgsm": [{"steps": 4}, {"steps": 3, "decay": 0.5, "loss": "vote"}],
    "momentum": [{"steps": 4}, {"steps": 3, "loss": "vote", "decay": 0.0}],
    "low-frequency": [{"steps": 4}, {"steps": 3, "frequency": 0.6, "loss": "margin"}],
    "hfc": [{"steps": 4}, {"steps": 3, "loss": "ce", "components": 3, "weight": 0.2}],
    "boundary": [{"steps": 3, "draws": 2}],
    "fgsm": [{}, {"loss": "ce"}],
    "fab": [{"steps": 3}, {"steps": 2, "targeted": True, "n_targets": 3, "restarts": 2}],
    "cw": [{"steps": 4, "searches": 2}],
    "square": [{"queries": 10}, {"queries": 5, "restarts": 2}],
    "hopskipjump": [{"steps": 2, "samples": 4, "starts": 4}],
    "noise": [{}],
    "clamp": [{}],
}
EPS = {"linf": 0.02, "l2": 0.3, "l1": 4.0}
CASES = [(name, norm) for name, spec in SPECS.items() for norm in spec.norms]
QUIETLY = settings(max_examples=2, deadline=None, database=None, phases=[Phase.generate])


def few(*case):
    """Two situations for each case: other ones for another case, and the same ones in every run."""
    return lambda check: QUIETLY(seed(seed_of(*case))(check))


situations = st.fixed_dictionaries(
    {
        "n": st.sampled_from([1, 3, 5]),
        "first": st.integers(0, 50),
        "kind": st.sampled_from(["deployed", "partial", "random"]),
        "setting": st.integers(0, 2),
        "eps": st.sampled_from([0.1, 0.5, 2.0]),
    }
)


def made(name, setting):
    module, attribute = SPECS[name].target.split(":")
    attack, choices = getattr(importlib.import_module(module), attribute), QUICK[name]
    return attack(attack.Params(**choices[setting % len(choices)]))


def test_every_attack_has_quick_settings():
    assert set(SPECS) - set(QUICK) == set()
    # A plugin can be copied out and tested by itself.
    assert set(QUICK) == set(SPECS)


@pytest.fixture(scope="module")
def run(convnet, images, counted):
    """Runs an attack in a situation on some of its images; gives the net, images, labels, target model and result."""
    pool = images(64)

    def run(name, norm, classes, situation, rows=None, budget=None):
        ids = torch.arange(situation["first"], situation["first"] + situation["n"])
        net = convnet(classes)
        x, y = pool[ids], net(pool[ids]).argmax(1)
        y[::4] = (y[::4] + situation["first"] % 2) % classes  # Some are wrong from the outset.
        part = slice(None) if rows is None else rows
        x, y, ids = x[part], y[part], ids[part]
        kind = situation["kind"]
        model = counted(net, len(x), kind == "deployed", 3 if kind == "random" else 1, ids)
        threat = ThreatModel(norm=norm, eps=EPS[norm] * situation["eps"])
        before, weights = x.clone(), [w.detach().clone() for w in net.parameters()]
        state = torch.get_rng_state()
        attack = made(name, situation["setting"])
        adv = attack.run(model, x, y, threat, budget or Budget(), Stream.named("attack", 0, ids))
        threat.check(adv, x)
        assert not adv.requires_grad
        assert adv.dtype == x.dtype
        assert torch.equal(x, before)
        assert not x.requires_grad
        assert all(torch.equal(w, old) for w, old in zip(net.parameters(), weights, strict=True))
        assert all(w.grad is None for w in net.parameters())
        assert torch.equal(torch.get_rng_state(), state)
        return model, adv

    return run


@pytest.mark.parametrize("classes", [2, 3, 7, 10])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_stays_inside_repeats_and_treats_each_image_alone(run, name, norm, classes):
    @few(name, norm, classes)
    @given(situations)
    def check(situation):
        model, whole = run(name, norm, classes, situation)
        if SPECS[name].access != "gradient":
            assert model.most["gradients"] == 0
        if SPECS[name].access == "none":
            assert model.most["queries"] == 0
        assert torch.equal(whole, run(name, norm, classes, situation)[1])
        if situation["n"] > 1:
            # Rounding differs with the size of the batch and grows over steps; a grey level is 4e-3.
            others = run(name, norm, classes, situation, slice(1, None))[1]
            torch.testing.assert_close(whole[1:], others, rtol=0, atol=5e-4)

    check()


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_keeps_within_the_budget(run, name, norm, classes):
    @few(name, norm, classes)
    @given(situations, st.sampled_from(["gradients", "queries"]), st.integers(0, 40))
    def check(situation, what, limit):
        draws = 3 if situation["kind"] == "random" else 1
        try:
            model, _ = run(name, norm, classes, situation, budget=Budget(**{what: limit}))
        except BudgetExceeded:
            least = draws * (1 if what == "gradients" else 5) + 2 * (name == "hfc")  # It also reads the features.
            assert limit < least  # Refused only where nothing can be done.
        else:
            assert model.most[what] <= limit

    check()
