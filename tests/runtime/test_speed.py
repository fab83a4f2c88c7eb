"""Faster passes: what they decide otherwise is found out and attacked again in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.attacks import accuracy, rung, settings, split
from helpers.grids import run
from helpers.toys import Brightness, Linear, Noisy, images
from torch import Tensor

from robustbench_med.attacks.measure import measure
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.plugins.registry import Registry
from robustbench_med.runtime.speed import Speed


class Coarse(Linear):
    """Answers that only differ in digits which bf16 drops: in half precision all images are class 0."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        # A product of matrices, and so in half precision under autocast: the constant swallows what the images say.
        return torch.cat([logits, torch.full_like(logits[:, :1], 30000.0)], 1) @ torch.tensor(
            [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
        )


def labelled(model: Linear, n: int = 48) -> Split:
    x = images(n)
    with torch.no_grad():
        return split(x, model(x).argmax(1))


THREAT = ThreatModel(eps=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_decisions_that_precision_changes_are_attacked_in_float32(precision: str) -> None:
    model = Coarse()
    data, index = labelled(model), torch.arange(48)
    assert 0 < int(data.labels.sum()) < 48
    plan = rung("oblivious", "apgd:steps=5")
    exact = measure(Pipeline(model), data, index, settings(plan, threat=THREAT))
    fast = measure(Pipeline(model), data, index, settings(plan, threat=THREAT, speed=Speed(precision=precision)))
    assert exact.rungs[0].repeated == 0
    assert fast.rungs[0].repeated > 0
    # Half precision sees one class only, so every image of the other one is attacked again, as in float32.
    other = data.labels == 1
    assert torch.equal(fast.attacked.predictions[:, other], exact.attacked.predictions[:, other])
    # Both attacks are paid for.
    assert (fast.rungs[0].queries[other] > exact.rungs[0].queries[other]).all()
    # And success is what the float32 system says.
    assert torch.equal(fast.clean.predictions, exact.clean.predictions)


def test_what_both_decide_alike_is_not_attacked_again() -> None:
    model = Linear()
    data, index = labelled(model, 24), torch.arange(24)
    plan = rung("oblivious", "apgd:steps=5")
    exact = measure(Pipeline(model), data, index, settings(plan, threat=THREAT))
    fast = measure(Pipeline(model), data, index, settings(plan, threat=THREAT, speed=Speed(precision="bf16")))
    assert fast.rungs[0].repeated <= 2
    assert abs(accuracy(exact) - accuracy(fast)) <= 2 / 24


@pytest.mark.parametrize("access", ["bpda", "full", "gate", "query"])
def test_every_rung_runs_in_half_precision(access: str) -> None:
    model = Linear()
    pipeline = Pipeline(model, Brightness(), Noisy(), Gate(0.5, 0.3, 0.7))
    attack = "square:queries=6" if access == "query" else "apgd:steps=3"
    how = settings(rung(access, attack, eot=2), threat=THREAT, speed=Speed(precision="bf16"), draws=2)
    outcome = measure(pipeline, labelled(model, 12), torch.arange(12), how)
    assert outcome.rungs[0].queries.min() > 0
    assert outcome.distances.max() <= THREAT.eps * 1.001


def test_gradients_that_fp16_would_swallow_survive() -> None:
    from robustbench_med.attacks.attacked_system import AttackedSystem

    class Faint(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 1e-4

    model, x = Faint(), images(4)
    y, ids = torch.zeros(4, dtype=torch.int64), torch.arange(4)
    gradients = {}
    for precision in ("float32", "fp16"):
        how = settings(rung("oblivious", "apgd"), threat=THREAT, speed=Speed(precision=precision))
        seen = AttackedSystem(Pipeline(model), how).target(how.rungs[0], how.counter(x, y), ids, how)
        leaf = x.clone().requires_grad_()
        (seen(leaf)[:, 0] * 1e-4).sum().backward()
        gradients[precision] = leaf.grad
    assert torch.allclose(gradients["fp16"], gradients["float32"], rtol=0.02, atol=0)


def test_precision_is_part_of_what_was_measured(toys: Registry, tmp_path: Path) -> None:
    (exact,) = run(toys, tmp_path / "out")
    (fast,) = run(toys, tmp_path / "out", precision="bf16")
    (first,) = run(toys, tmp_path / "out", channels_last=False)
    assert exact.cell_id == first.cell_id != fast.cell_id
    assert fast.provenance.speed["precision"] == "bf16"
    assert "speed" not in exact.provenance
    assert fast.metrics["clean_accuracy"] == exact.metrics["clean_accuracy"]


@pytest.mark.slow
# torch's compiler looks at the gradients of tensors that have none.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning", "ignore::DeprecationWarning")
def test_compiled_models_answer_the_same(toys: Registry, tmp_path: Path) -> None:
    (exact,) = run(toys, tmp_path / "a", batch_size=12)
    (compiled,) = run(toys, tmp_path / "b", batch_size=12, compile=True)
    assert compiled.status == "ok", compiled.reason
    assert compiled.n == exact.n
    assert compiled.metrics["clean_accuracy"] == exact.metrics["clean_accuracy"]
    assert compiled.metrics["robust_accuracy"] == pytest.approx(exact.metrics["robust_accuracy"], abs=2 / 24)
    assert compiled.provenance.speed["compile"]
