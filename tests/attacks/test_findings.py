"""Attacks on systems that answer about several findings, and on grades: what they are shown, and exact answers."""

from __future__ import annotations

import importlib

import pytest
import torch
from helpers.toys import Halver, Linear, images
from torch import Tensor

from robustbench_med.attacks.goal import AnyFinding, FarGrade
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import Rung, RungRef
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.findings import OneFinding, Shifted
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.results import Outcome
from robustbench_med.interfaces.tasks import decode, encode, label_counts, right_answers, training_loss
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry

#: Quick settings of every attack; those not named here run with their defaults.
SETTINGS: dict[str, dict[str, object]] = {
    "autoattack": {"steps": 4, "queries": 20},
    "apgd": {"steps": 8},
    "pgd": {"steps": 4},
    "lee-kim": {"steps": 4},
    "mifgsm": {"steps": 4},
    "momentum": {"steps": 4},
    "low-frequency": {"steps": 4, "frequency": 0.75},
    "hfc": {"steps": 4},
    "boundary": {"steps": 4},
    "fab": {"steps": 4},
    "cw": {"steps": 6, "searches": 2},
    "square": {"queries": 20},
    "hopskipjump": {"steps": 2, "samples": 8},
}
ATTACKS = [entry for entry in Registry().entries("attack") if entry.distribution == "rbmed-attacks"]
DUAL = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}
EPS = {"linf": 0.03, "l2": 0.1, "l1": 0.3}


class Seen(Linear):
    """The same with features: the mean intensities of four parts."""

    def embed(self, x: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def rung(name: str, **params: object) -> Rung:
    entry = Registry().find("attack", name)
    module, attribute = entry.spec.target.split(":")
    kind = getattr(importlib.import_module(module), attribute)
    attack = kind(kind.Params(**{**SETTINGS.get(name, {}), **params}))
    access = "query" if entry.spec.access in ("scores", "decision") else "oblivious"  # type: ignore[attr-defined]
    return Rung(RungRef(access, PartRef(name)), attack, norms=entry.spec.norms)  # type: ignore[attr-defined]


def findings(model: Linear, n: int, seed: int = 1) -> Split:
    """Images with the findings that the model sees in them, a few of which are wrong."""
    x = 0.3 + 0.4 * images(n, seed=seed)
    with torch.no_grad():
        labels = (model(x) > 0).long()
    labels[::5, 0] = 1 - labels[::5, 0]
    return Split(x, labels, tuple(map(str, range(n))), ("a",) * n)


def attacked(pipeline: Pipeline, split: Split, one: Rung, threat: ThreatModel, **more: object) -> Outcome:
    many = split.labels.dim() > 1
    count = split.labels.shape[1] if many else 2
    split = Split(split.images, encode(split.labels) if many else split.labels, split.patients, split.sites)
    facts: dict[str, object] = {
        "task": "multi-label" if many else "multi-class",
        "num_classes": count,
        "lesion_class": None,
        "clean": lambda: split,
    }
    settings = EvaluationSettings(threat, (one,), device=torch.device("cpu"), **{**facts, **more})  # type: ignore[arg-type]
    return measure(pipeline, split, torch.arange(len(split)), settings)


@pytest.mark.parametrize("count", [1, 2, 9, 14])
@pytest.mark.parametrize("name", [entry.spec.name for entry in ATTACKS])
def test_every_attack_stays_inside_repeats_and_says_the_truth(name: str, count: int) -> None:
    model, one = Linear(count), rung(name)
    split, pipeline = findings(model, 7), Pipeline(Seen(count), findings=True)
    for norm in one.norms:
        threat = ThreatModel(norm, EPS.get(norm, 0.5))
        outcome, again = (attacked(pipeline, split, one, threat) for _ in range(2))
        assert torch.equal(outcome.distances, again.distances)
        assert torch.equal(outcome.attacked.predictions, again.attacked.predictions)
        if norm not in DUAL:  # a threat model without a distance of images
            continue
        assert (outcome.distances <= threat.eps * 1.0001 + 1e-5).all()
        assert outcome.attacked.logits is not None
        assert torch.equal(encode(outcome.attacked.logits[0] > 0), outcome.attacked.predictions[0])
        # Never more than the nearest finding allows: what is exactly robust stays right.
        safe = distances(model, split, norm).amin(1) > threat.eps * 1.001
        assert outcome.attacked.robust(outcome.labels)[0, safe].all()
        pool = Split(split.images, encode(split.labels), split.patients, split.sites)
        alone = attacked(pipeline, split.select(torch.tensor([3])), one, threat, clean=lambda pool=pool: pool)
        assert len(alone.labels) == 1


def distances(model: Linear, split: Split, norm: str) -> Tensor:
    """For each finding, how far the image is from a wrong answer, (N, K); 0 where it is wrong. Inside of [0, 1]."""
    with torch.no_grad():
        logits, slope = model(split.images), model.weight.norm(p=DUAL[norm], dim=1)
        right = (logits > 0) == (split.labels == 1)
        return torch.where(right, logits.abs() / slope, 0.0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("count", [1, 2, 9, 14])
def test_the_robust_accuracy_of_a_linear_model_is_exact_for_each_finding_and_for_all(norm: str, count: int) -> None:
    model = Linear(count)
    split = findings(model, 40)
    reach = distances(model, split, norm)
    eps = float(reach[reach > 0].median())
    threat = ThreatModel(norm, eps)
    apgd = rung("apgd", steps=25, loss="margin", **({"targeted": True} if count > 1 else {}))
    outcome = attacked(Pipeline(model, findings=True), split, apgd, threat)
    safe = reach.amin(1) > eps
    close = (reach.amin(1) / eps - 1).abs() < 0.01
    assert torch.equal(outcome.attacked.robust(outcome.labels)[0][~close], safe[~close])
    # Of each finding no more images are lost than an attack on it alone would lose.
    seen = decode(outcome.attacked.predictions[0], count) == (split.labels == 1)
    for number in range(count):
        assert seen[reach[:, number] > eps * 1.001, number].all()
        named = Split(split.images, split.labels[:, number], split.patients, split.sites)
        alone = attacked(Pipeline(OneFinding(model, number)), named, rung("apgd", steps=25, loss="margin"), threat)
        near = (reach[:, number] / eps - 1).abs() < 0.01
        assert torch.equal(alone.attacked.robust(named.labels)[0][~near], (reach[:, number] > eps)[~near])


def test_the_loss_over_all_findings_makes_more_of_them_wrong_than_the_margin_does() -> None:
    model = Linear(9)
    split, threat = findings(model, 30), ThreatModel("linf", 0.1)

    def wrong(loss: str) -> float:
        outcome = attacked(
            Pipeline(model, findings=True), split, rung("apgd", steps=20, loss=loss, stop="never"), threat
        )
        return float((decode(outcome.attacked.predictions[0], 9) != (split.labels == 1)).float().mean())

    assert wrong("bce") > 1.5 * wrong("margin")


def test_a_purified_system_of_findings_is_attacked_through_every_rung() -> None:
    model = Linear(5)
    split, threat = findings(model, 12), ThreatModel("linf", 0.2)
    pipeline = Pipeline(model, purifier=Halver(), findings=True)
    for access in ("oblivious", "boundary", "bpda", "full"):
        attack = rung("apgd", steps=10, loss="margin")
        outcome = attacked(pipeline, split, Rung(RungRef(access, PartRef("apgd")), attack.attack), threat)
        assert outcome.attacked.robust(outcome.labels).float().mean() < 0.3


def test_what_the_adversary_is_shown() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    y = encode(torch.tensor([[1, 0, 0]]))
    goal = AnyFinding(3)
    assert goal.labels(y).tolist() == [0]
    assert goal.logits(logits, y).tolist() == [[0.0, -2.0, -1.0, 0.5]]  # the third is answered wrongly
    far = FarGrade(5)
    grades = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]] * 3)
    assert far.logits(grades, torch.tensor([0, 2, 4])).tolist() == [[1.0, 4.0], [3.0, 4.0], [4.0, 2.0]]
    assert FarGrade(5, farthest=True).logits(grades, torch.tensor([0, 3, 4])).tolist() == [[3, 4], [4, 0], [4, 0]]
    assert FarGrade(3).possible(torch.tensor([0, 1, 2])).tolist() == [True, False, True]


def test_a_far_grade_is_reached_and_counted() -> None:
    model = Linear(5)
    x = 0.3 + 0.4 * images(30)
    y = model(x).argmax(1)
    split = Split(x, y, tuple(map(str, range(30))), ("a",) * 30)
    more = {"task": "ordinal", "num_classes": 5}
    rows = FarGrade(5).possible(y)
    assert rows.all()
    near = attacked(Pipeline(model), split, rung("apgd", steps=20), ThreatModel("linf", 0.15), **more)
    threat = ThreatModel("linf", 0.15, goal="distant")
    far = attacked(Pipeline(model), split, rung("apgd", steps=20), threat, **more)
    assert ((far.attacked.predictions - y).abs() > 1).sum() > ((near.attacked.predictions - y).abs() > 1).sum()
    end = attacked(Pipeline(model), split, rung("apgd", steps=20), ThreatModel("linf", 0.5, goal="farthest"), **more)
    assert ((end.attacked.predictions[0] == 0) | (end.attacked.predictions[0] == 4)).float().mean() > 0.9


def test_sets_of_findings_are_numbers_and_back() -> None:
    held = torch.rand(50, 62) > 0.5
    assert torch.equal(decode(encode(held), 62), held)
    assert (encode(held) >= 0).all()
    assert label_counts(torch.tensor([[0, 0], [1, 1]]), 2).tolist() == [[0, 0, 1], [1, 1, 0]]
    logits = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    assert right_answers(logits, torch.tensor([[1, 0], [1, 0]])).tolist() == [True, False]
    assert training_loss(logits, torch.tensor([[1, 0], [1, 0]])) > 0
    shifted = Shifted(Linear(2), torch.tensor([1.0, -1.0]))
    x = images(3)
    assert torch.allclose(shifted(x), Linear(2)(x) - torch.tensor([1.0, -1.0]))
