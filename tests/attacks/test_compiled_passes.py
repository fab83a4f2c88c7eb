"""Which passes of the rungs are one graph to torch's compiler: all whose shapes do not depend on what is flagged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import PipelineTarget, TargetSettings
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.interfaces.attack import margin
from robustbench_med.interfaces.defense import Detector, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.testing import ToyClassifier, toy_images
from robustbench_med.testing.toys import ToyPurifier

#: access, detector, purifier, evasion
GRADIENTS = [
    ("oblivious", False, False, "orthogonal"),
    ("boundary", True, True, "orthogonal"),
    ("gate", True, True, "selective"),
    ("gate", True, True, "orthogonal"),
    ("gate", True, True, "joint:0.5"),
    ("full", False, True, "orthogonal"),
    ("full", True, False, "orthogonal"),
]
#: How many images are purified is read back: their number is a shape.
READ_BACK = [("bpda", True, True), ("full", True, True), ("query", True, True)]


class Bright(Detector):
    """Scores an image by its mean."""

    stochastic = False

    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        return x.flatten(1).mean(1)


def target(access: str, detector: bool, purifier: bool, evasion: str = "orthogonal") -> tuple[PipelineTarget, Tensor]:
    x, _ = toy_images()
    y, threat = torch.arange(len(x)) % 2, ThreatModel("linf", 4 / 255, access)
    gate = Gate(float(x.mean()), float(x.mean()) - 0.1, float(x.mean()) + 0.1)
    pipeline = Pipeline(
        ToyClassifier(), Bright() if detector else None, ToyPurifier() if purifier else None, gate if detector else None
    )
    settings = TargetSettings(pipeline, QueryCounter(x, y, threat, Budget()), evasion=evasion)
    return target_for(settings, access, Stream.named("noise", 0, torch.arange(len(x)))), x


def gradient(seen: PipelineTarget, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    logits = seen(x)
    (found,) = torch.autograd.grad(margin(logits, seen.settings.counter.y).sum(), x)
    return logits.detach(), found


@pytest.mark.parametrize(("access", "detector", "purifier", "evasion"), GRADIENTS)
def test_a_pass_is_one_graph_counts_included(
    access: str, detector: bool, purifier: bool, evasion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._dynamo as compiler

    compiler.reset()
    found = []
    # The plain one first: it hashes the names of random streams, which the compiler cannot.
    for through in (gradient, torch.compile(gradient, backend="eager", fullgraph=True)):
        seen, x = target(access, detector, purifier, evasion)
        with compiler.config.patch(trace_autograd_ops=True):
            passes = [each for at in range(3) for each in through(seen, x + at / 100)]
        counter = seen.settings.counter
        found.append([*passes, counter.queries, counter.gradients, counter.backward_calls, counter.zero, counter.top])
    assert int(found[0][-4].min()) == (6 if access == "gate" and evasion != "selective" else 3)
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain)


@pytest.mark.parametrize(("access", "detector", "purifier"), READ_BACK)
def test_a_number_of_purified_images_is_not_traced(access: str, detector: bool, purifier: bool) -> None:
    import torch._dynamo as compiler

    compiler.reset()
    seen, x = target(access, detector, purifier)
    seen(x)
    with torch.no_grad(), pytest.raises(Exception, match="data-dependent"):
        torch.compile(lambda images: seen(images), backend="eager", fullgraph=True)(x)
