"""What each adversary sees: exact forward, the right gradient, counted passes."""

from __future__ import annotations

import pytest
import torch
from toys import Brightness, Halver, Linear, Noisy, images

from robustbench_med.errors import BudgetExceeded
from robustbench_med.pipeline import Gate, Pipeline
from robustbench_med.streams import Stream
from robustbench_med.surfaces import Meter, PipelineSurface, surface
from robustbench_med.threat import Budget

GATE = Gate(threshold=0.5, low=0.4, high=0.6)


def seen(pipeline: Pipeline, access: str, n: int, eot: int = 1, budget: Budget | None = None) -> PipelineSurface:
    stream = Stream.named("defense-under-attack", 0, torch.arange(n))
    return surface(pipeline, access, stream, Meter(n, budget or Budget(), torch.device("cpu")), eot)


def gradient(module: PipelineSurface, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad((module(x)[:, 1] - module.at(torch.arange(len(x)))(x)[:, 0]).sum(), x)[0]


def test_oblivious_is_the_classifier() -> None:
    pipeline = Pipeline(Linear(), Brightness(), Halver(), GATE)
    x = images()
    assert torch.equal(seen(pipeline, "oblivious", 8)(x), pipeline.classifier(x))


def test_bpda_forward_is_the_deployed_system_exactly() -> None:
    pipeline = Pipeline(Linear(), Brightness(), Halver(), GATE)
    x = images(16)
    stream = Stream.named("defense-under-attack", 0, torch.arange(16))
    assert torch.equal(seen(pipeline, "bpda", 16)(x), pipeline(x, stream))


def test_bpda_backward_passes_the_purifier_as_identity() -> None:
    model = Linear()
    x = images(16)
    # The classifier is linear: BPDA's gradient is its weight, although the true one through Halver is half of it.
    got = gradient(seen(Pipeline(model, None, Halver()), "bpda", 16), x)
    expected = (model.weight[1] - model.weight[0]).view(1, 1, 4, 4).expand_as(got)
    assert torch.allclose(got, expected, atol=1e-6)


def test_eot_averages_independent_draws() -> None:
    pipeline = Pipeline(Linear(), None, Noisy())
    x = images(4)
    single = torch.stack([seen(pipeline, "bpda", 4)(x)])
    surface_ = seen(pipeline, "bpda", 4)
    spread = torch.stack([surface_(x) for _ in range(64)]).std(0)
    averaged = seen(pipeline, "bpda", 4, eot=64)
    tighter = torch.stack([averaged(x) for _ in range(64)]).std(0)
    assert single.shape == (1, 4, 2)
    assert (tighter / spread).mean() == pytest.approx(1 / 8, rel=0.3)


def test_meter_counts_draws_and_follows_a_shrinking_batch() -> None:
    module = seen(Pipeline(Linear(), None, Noisy()), "bpda", 4, eot=3)
    gradient(module, images(4))
    assert module.meter.gradients.tolist() == [6] * 4  # two passes of three draws each
    module.at(torch.tensor([1, 3]))(images(2))
    assert module.meter.queries.tolist() == [6, 9, 6, 9]


def test_noise_follows_the_image_into_a_smaller_batch() -> None:
    pipeline = Pipeline(Linear(), None, Noisy())
    x, index = images(6), torch.tensor([4, 0])
    whole, part = seen(pipeline, "bpda", 6, eot=2), seen(pipeline, "bpda", 6, eot=2).at(index)
    assert torch.allclose(part(x[index]), whole(x)[index], atol=1e-6)


def test_budget_stops_the_attack() -> None:
    module = seen(Pipeline(Linear()), "oblivious", 2, budget=Budget(queries=2))
    module(images(2))
    module(images(2))
    with pytest.raises(BudgetExceeded, match="2 forward passes"):
        module(images(2))


def test_attacks_may_stop_early_only_on_the_deployed_deterministic_system() -> None:
    detector, gate = Brightness(), GATE
    assert seen(Pipeline(Linear()), "oblivious", 1).stop_on_success
    assert not seen(Pipeline(Linear(), detector, Halver(), gate), "oblivious", 1).stop_on_success
    assert seen(Pipeline(Linear(), detector, Halver(), gate), "bpda", 1).stop_on_success
    assert not seen(Pipeline(Linear(), detector, Noisy(), gate), "bpda", 1).stop_on_success
    assert not seen(Pipeline(Linear(), detector, None, gate), "bpda", 1).stop_on_success


def test_wrong_number_of_images_is_named() -> None:
    with pytest.raises(ValueError, match="holds 4 images, not 3"):
        seen(Pipeline(Linear()), "oblivious", 4)(images(3))
