"""Several attacks on one system: worst case per image, cheapest first, broken images skipped."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.attacks import accuracy, run, rung, rung_of, settings
from helpers.toys import Brightness, Halver, Linear, Noisy
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.attacks.goal import Sides
from robustbench_med.attacks.rung import Rung, RungRef
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.errors import OutsideThreatModel, UsageError
from robustbench_med.grid.cell import Cell
from robustbench_med.grid.config import build
from robustbench_med.grid.ladder import PRESETS
from robustbench_med.grid.plan import plan
from robustbench_med.interfaces.results import NOT_FINITE, Predictions
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import ACCESS
from robustbench_med.runtime.cache import SharedResults
from robustbench_med.runtime.isolation import isolated

N = 40
THREAT = ThreatModel(eps=0.08)


class Nudge:
    """Moves the images whose row is in ``rows`` straight across a linear boundary; leaves the others."""

    params, eot, warm = None, None, False

    def __init__(self, net: Linear, rows: set[int]) -> None:
        self.net, self.rows, self.given = net, rows, []

    def run(self, model, x: Tensor, y: Tensor, threat, budget, rng) -> Tensor:  # type: ignore[no-untyped-def]
        self.given.append(len(x))
        model(x)
        hit = torch.tensor([key(image) in self.rows for image in x])
        direction = torch.where(y == 0, 1.0, -1.0).view(-1, 1, 1, 1) * (self.net.weight[1] - self.net.weight[0]).sign()
        moved = threat.project(x + threat.eps * direction.view(len(x), *x.shape[1:]), x)
        return torch.where(hit.view(-1, 1, 1, 1), moved, x)


def images() -> Tensor:
    return 0.5 + 0.1 * (torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(1)) - 0.5)


def key(image: Tensor) -> int:
    return round(float(image.sum()) * 1e6)


@pytest.fixture
def easy() -> tuple[Linear, Tensor, Tensor]:
    """A linear net and images that any nudge of the threat's size breaks."""
    net, x = Linear(), images()
    return net, x, net(x).argmax(1)


def test_the_ladder_takes_the_worst_of_every_image_and_spares_the_broken(easy: tuple[Linear, Tensor, Tensor]) -> None:
    net, x, y = easy
    first = Nudge(net, {key(image) for image in x[:10]})
    second = Nudge(net, {key(image) for image in x[:25]})
    rungs = [rung_of(first), rung_of(second, "query")]
    outcome = run(Pipeline(net), x, y, settings(*rungs, threat=THREAT))
    assert accuracy(outcome) == pytest.approx(1 - 25 / N)
    assert (first.given, second.given) == ([N], [N - 10])
    assert outcome.rungs[0].robust.sum() == N - 10
    assert outcome.rungs[1].robust.sum() == N - 25
    assert outcome.rungs[1].attacked.sum() == N - 10
    assert outcome.queries.tolist() == [1] * 10 + [2] * (N - 10)


def test_no_attack_runs_when_all_images_are_broken(easy: tuple[Linear, Tensor, Tensor]) -> None:
    """When everything is broken, what is left of the ladder has nothing to do: parts need not know empty batches."""
    net, x, y = easy
    every = {key(image) for image in x}
    rungs = [rung_of(Nudge(net, every), "query") for _ in range(2)]
    outcome = run(Pipeline(net), x, y, settings(*rungs, threat=THREAT))
    assert accuracy(outcome) == 0
    assert rungs[1].attack.given == []  # type: ignore[attr-defined]
    assert [result.attacked.sum() for result in outcome.rungs] == [N, 0]
    assert not outcome.rungs[1].robust.any()


def test_an_image_that_is_wrong_from_the_outset_counts_as_broken_and_costs_nothing(
    easy: tuple[Linear, Tensor, Tensor],
) -> None:
    net, x, y = easy
    y = torch.where(torch.arange(N) < 7, 1 - y, y)
    attack = Nudge(net, set())
    rungs = [rung_of(attack), rung_of(attack)]
    outcome = run(Pipeline(net), x, y, settings(*rungs, threat=THREAT))
    assert attack.given == [N - 7] * 2
    assert accuracy(outcome) == pytest.approx(1 - 7 / N)


def test_more_rungs_never_help_the_defender() -> None:
    net = Linear()
    pipeline = Pipeline(net, Brightness(), Noisy(), Gate(threshold=0.5, low=0.4, high=0.6))
    x = images()
    y = net(x).argmax(1)
    rungs = [rung("oblivious", "apgd:steps=5"), rung("full", "apgd:steps=5", eot=4), rung("query", "square:queries=20")]
    alone = [accuracy(run(pipeline, x, y, settings(rung, threat=THREAT, draws=8))) for rung in rungs]
    together = accuracy(run(pipeline, x, y, settings(*rungs, threat=THREAT, draws=8)))
    assert together <= min(alone) + 0.05  # chance of the scoring draws aside


def test_chance_is_not_success() -> None:
    """Twelve attacks that do nothing: choosing the worst of them must not lower the score of fresh draws."""
    net = Linear()
    pipeline = Pipeline(net, None, Noisy())
    x = 0.5 + 4 * (images() - 0.5)
    y = net(x).argmax(1)
    idle = [rung_of(Nudge(net, set()), "query") for _ in range(12)]
    once = run(pipeline, x, y, settings(idle[0], threat=THREAT, draws=4))
    ladder = run(pipeline, x, y, settings(*idle, threat=THREAT, draws=4))
    assert 0.5 < accuracy(once) < 0.99  # the noise alone turns some answers
    assert accuracy(ladder) == pytest.approx(accuracy(once), abs=0.02)


def test_a_rung_that_does_not_exist_is_noted_and_all_of_them_is_an_error(easy: tuple[Linear, Tensor, Tensor]) -> None:
    net, x, y = easy
    pipeline = Pipeline(net, None, Halver())
    bad, good = rung("query", "apgd:steps=2"), rung("bpda", "apgd:steps=5")
    outcome = run(pipeline, x, y, settings(bad, good, threat=THREAT))
    assert "gives no gradient" in outcome.rungs[0].reason
    assert outcome.rungs[1].attacked.all()
    with pytest.raises(UsageError, match="gives no gradient"):
        run(pipeline, x, y, settings(bad, bad, threat=THREAT))


def test_results_do_not_depend_on_the_batch() -> None:
    net = Linear()
    pipeline = Pipeline(net, Brightness(), Noisy(), Gate(threshold=0.5, low=0.4, high=0.6))
    x = images()
    y = net(x).argmax(1)
    rungs = [
        rung("bpda", "apgd:steps=4", eot=2),
        rung("gate", "apgd:steps=4", eot=2),
        rung("query", "square:queries=9"),
    ]
    whole, small = (run(pipeline, x, y, settings(*rungs, threat=THREAT, draws=3, batch=batch)) for batch in (64, 7))
    assert torch.equal(whole.attacked.predictions, small.attacked.predictions)
    assert torch.equal(whole.queries, small.queries)
    assert torch.allclose(whole.distances, small.distances, atol=1e-6)


def test_presets_run_from_cheap_to_expensive_and_the_full_one_is_strong() -> None:
    order = list(ACCESS)
    for name, ladder in PRESETS.items():
        places = [order.index(rung.access) for rung in ladder.rungs]
        assert places == sorted(places)
        left_out = {"insider"} if name == "quick" else set()
        assert set(order) - left_out == {rung.access for rung in ladder.rungs}
    registry, least = Registry(), {"static": 100, "random": 1000}
    for systems, gradients in least.items():
        spent = 0
        for ref in PRESETS["full"].rungs:
            made = rbmed.plugins.components.create(registry, "attack", ref.attack)
            if ref.access == "full" and ref.systems == systems:
                spent += made.params.steps * (ref.eot or 1) * ref.rounds
        assert spent >= gradients
    assert PRESETS["quick"].limit == 64


def test_a_ladder_may_run_another_attack() -> None:
    options = {"access": "ladder:quick", "attack": "pgd:steps=3", "baseline": ""}
    (cell,) = (cell for cell in plan(build(options), Registry()) if isinstance(cell, Cell))
    assert {rung.ref.attack.name for rung in cell.rungs if rung.access != "query"} == {"pgd"}
    assert [rung.ref.attack.name for rung in cell.rungs if rung.access == "query"] == ["square"]
    assert cell.limit == 64
    assert cell.attack.params["attack"] == "pgd:steps=3"


@pytest.mark.parametrize(("goal", "kept"), [("hide-lesion", 1), ("fake-lesion", 0)])
def test_a_goal_concerns_one_side_only(goal: str, kept: int) -> None:
    net = Linear(classes=3)
    x = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    y = net(x).argmax(1)
    test = rbmed.Split(images=x, labels=y, patients=tuple(map(str, range(60))), sites=("a",) * 60)
    index = rows_to_evaluate(test, ("a",), None, goal, 1)
    assert ((y[index] == 1).long() == kept).all()
    assert len(index) == int(((y == 1).long() == kept).sum())
    part = test.select(index)
    threat = ThreatModel(eps=0.3, goal=goal)
    outcome = run(
        Pipeline(net), part.images, part.labels, settings(rung("oblivious", "apgd"), threat=threat, classes=3)
    )
    answers = outcome.attacked.predictions[0]
    turned = answers != part.labels
    assert turned.float().mean() > 0.8
    if goal == "fake-lesion":  # not just any other answer
        assert (answers[turned] == 1).all()


def test_another_class_of_the_same_side_is_no_faked_lesion() -> None:
    y = torch.tensor([0, 0, 0, 1, 1, 0])  # class 1 is the lesion
    answers = torch.tensor([[2, 1, 0, 2, 1, NOT_FINITE]])
    none, zeros = torch.zeros(1, 6, dtype=torch.bool), torch.zeros(1, 6)
    assert Sides(1).lost(Predictions(answers, none, none, zeros, none, zeros), y).int().tolist() == [[0, 1, 0, 1, 0, 1]]
    assert not Sides(1).lost(Predictions(answers, ~none, ~none, zeros, none, zeros), y).any()


def test_a_ladder_goes_on_to_fake_a_lesion_where_the_answer_is_another_class_without_one() -> None:
    net = Linear(classes=3)
    x = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    answers = net(x).argmax(1)
    x, y = x[answers != 1], 2 - answers[answers != 1]  # wrong from the outset, and on the right side of the border
    rungs = [rung("oblivious", attack) for attack in ("noise", "apgd")]
    how = settings(*rungs, threat=ThreatModel(eps=0.3, goal="fake-lesion"), classes=3)
    outcome = run(Pipeline(net), x, y, how)
    assert (outcome.attacked.predictions[0] == 1).float().mean() > 0.8


class Drawn:
    """Moves every image by noise of its own stream, and counts its runs."""

    params, eot, warm, spec_name, spec_revision = rbmed.Params(), None, False, "drawn", 1

    def __init__(self) -> None:
        self.made: list[Tensor] = []

    def run(self, model, x: Tensor, y: Tensor, threat, budget, rng) -> Tensor:  # type: ignore[no-untyped-def]
        self.made.append(threat.project(x + 2 * rng.uniform(tuple(x.shape)) - 1, x))
        return self.made[-1]


def test_each_round_on_a_surrogate_has_images_of_its_own(tmp_path: Path) -> None:
    net, drawn = Linear(), Drawn()
    x = images()
    rungs = Rung(RungRef("transfer", PartRef("drawn"), rounds=3), drawn)
    how = settings(rungs, threat=ThreatModel(eps=1e-6), surrogate=net, shared=SharedResults("code", tmp_path))
    run(Pipeline(net), x, net(x).argmax(1), how)
    assert len(drawn.made) == 3
    assert not torch.equal(drawn.made[0], drawn.made[1])


def test_global_generators_are_seeded_and_put_back() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    drawn = []
    for seed in (1, 1, 2):
        with isolated(seed):
            drawn.append((float(torch.rand(())), float(np.random.rand()), random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(RuntimeError), isolated(3):
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]


def test_an_attack_that_draws_from_global_generators_repeats_and_leaves_them_alone() -> None:
    class Careless:
        params, eot, warm = None, None, False

        def run(self, model, x, y, threat, budget, rng):  # type: ignore[no-untyped-def]
            shift = torch.rand_like(x) + random.random() + torch.from_numpy(np.random.rand(*x.shape)).float()  # noqa: NPY002
            return threat.project(x + threat.eps * (shift - 1.5), x)

    net, x = Linear(), images()
    how = settings(rung_of(Careless()), threat=THREAT)
    state = torch.get_rng_state()
    a, b = (run(Pipeline(net), x, net(x).argmax(1), how) for _ in range(2))
    assert torch.equal(a.distances, b.distances)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("library", ["torchattacks:PGD,steps=50", "foolbox:LinfPGD,steps=50", "art:HopSkipJump"])
def test_a_third_party_attack_is_stopped_at_the_budget_and_its_best_image_is_used(library: str) -> None:
    pytest.importorskip(library.partition(":")[0])
    # Few images for an attack that takes them one by one.
    number = 20 if "PGD" in library else 5
    net, x = Linear(), torch.rand(number, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    y = net(x).argmax(1)
    attack = rung("oblivious", library)
    stopped = run(Pipeline(net), x, y, settings(attack, threat=THREAT, budget=Budget(queries=6)))
    assert stopped.rungs[0].exhausted
    assert stopped.queries.max() <= 6
    assert (stopped.distances <= THREAT.eps + 1e-6).all()
    whole = accuracy(run(Pipeline(net), x, y, settings(attack, threat=THREAT)))
    if "PGD" in library:  # a few steps break some images already, and they are not thrown away
        assert whole <= accuracy(stopped) < 1
    else:  # it had no time to come near: the images that it showed lie outside the ball
        assert whole < accuracy(stopped) == 1


class Returns:
    """Overwrites its labels, and returns what a function makes of the images."""

    params, eot, warm = None, None, False

    def __init__(self, made: Callable[[Tensor], Tensor]) -> None:
        self.made = made

    def run(self, model, x: Tensor, y: Tensor, threat, budget, rng) -> Tensor:  # type: ignore[no-untyped-def]
        y.fill_(0)
        model(x)
        return self.made(x)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("complex", lambda x: x + 1j),
        ("sparse", lambda x: x.to_sparse()),
        ("meta", lambda x: x.to("meta")),
    ],
)
def test_tensors_that_are_no_images_are_refused(
    easy: tuple[Linear, Tensor, Tensor], kind: str, made: Callable[[Tensor], Tensor]
) -> None:
    net, x, y = easy
    with pytest.raises(OutsideThreatModel, match=f"the attack returned a {kind} tensor, not images"):
        run(Pipeline(net), x, y, settings(rung_of(Returns(made)), threat=THREAT))


def test_an_attack_that_overwrites_its_labels_changes_nothing(easy: tuple[Linear, Tensor, Tensor]) -> None:
    net, x, y = easy
    outcome = run(Pipeline(net), x, y, settings(rung_of(Returns(lambda x: x)), threat=THREAT))
    assert accuracy(outcome) == 1
    assert (outcome.rungs[0].first < 0).all(), "margins are those to the true classes"
