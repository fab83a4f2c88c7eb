"""What each adversary sees: exact forward, the right gradient, counted passes."""

from __future__ import annotations

import pytest
import torch
from helpers.toys import Brightness, Halver, Linear, Noisy, images

from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.goal import Goal, Sides
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import PipelineTarget, TargetSettings, abstained
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.errors import BudgetExceeded, NotDefined
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel

GATE = Gate(threshold=0.5, low=0.4, high=0.6)


def seen(
    pipeline: Pipeline, access: str, n: int, eot: int = 1, budget: Budget | None = None, **more: object
) -> PipelineTarget:
    x = images(n)
    counter = QueryCounter(x, torch.zeros(n, dtype=torch.int64), ThreatModel(eps=0.5), budget or Budget())
    settings = TargetSettings(pipeline, counter, eot, **more)  # type: ignore[arg-type]
    return target_for(settings, access, Stream.named("defense-under-attack", 0, torch.arange(n)))


def gradient(module: PipelineTarget, x: torch.Tensor) -> torch.Tensor:
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
    target_model = seen(pipeline, "bpda", 4)
    spread = torch.stack([target_model(x) for _ in range(64)]).std(0)
    averaged = seen(pipeline, "bpda", 4, eot=64)
    tighter = torch.stack([averaged(x) for _ in range(64)]).std(0)
    assert single.shape == (1, 4, 2)
    assert (tighter / spread).mean() == pytest.approx(1 / 8, rel=0.3)


def test_meter_counts_draws_and_follows_a_shrinking_batch() -> None:
    module = seen(Pipeline(Linear(), None, Noisy()), "bpda", 4, eot=3)
    gradient(module, images(4))
    assert module.settings.counter.gradients.tolist() == [6] * 4  # two passes of three draws each
    module.at(torch.tensor([1, 3]))(images(2))
    assert module.settings.counter.queries.tolist() == [6, 9, 6, 9]


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
    # A rejected image counts as answered right on the target model already.
    assert seen(Pipeline(Linear(), detector, None, gate), "bpda", 1).stop_on_success
    assert not seen(Pipeline(Linear()), "transfer", 1, surrogate=Linear(seed=1)).stop_on_success


def test_wrong_number_of_images_is_named() -> None:
    with pytest.raises(ValueError, match="holds 4 images, not 3"):
        seen(Pipeline(Linear()), "oblivious", 4)(images(3))


def test_every_call_sees_fresh_noise_also_through_a_part_of_the_target_model() -> None:
    module = seen(Pipeline(Linear(), None, Noisy()), "bpda", 4)
    x, one = images(4), torch.tensor([2])
    first = module(x)
    second = module.at(one)(x[one])
    third = module(x)
    assert not torch.allclose(first[2], second[0])
    assert not torch.allclose(first, third)
    assert not torch.allclose(second[0], third[2])


def test_draws_are_split_to_fit_and_give_the_same_gradient() -> None:
    pipeline = Pipeline(Linear().double(), None, Noisy())
    x = images(3).double()
    whole = gradient_of(seen(pipeline, "full", 3, eot=8), x)
    split = gradient_of(seen(pipeline, "full", 3, eot=8, chunk=5), x)
    assert torch.allclose(whole[0], split[0])
    assert torch.allclose(whole[1], split[1])


def gradient_of(module: PipelineTarget, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    logits = module(x)
    return logits.detach(), torch.autograd.grad(logits[:, 1].sum(), x)[0]


def test_a_flexible_target_model_recognises_images_in_any_order_and_number() -> None:
    net, clean = Linear(), images(5)
    module = seen(Pipeline(net), "oblivious", 5)
    loose = module.flexible(clean)
    order = torch.tensor([3, 3, 0, 4])
    near = (clean[order] + 0.02).clamp(0, 1)
    assert torch.allclose(loose(near), net(near))
    assert module.settings.counter.queries.tolist() == [1, 0, 0, 2, 1]


def test_a_whole_flexible_batch_is_taken_in_order_however_far_its_images_are() -> None:
    module = seen(Pipeline(Linear()), "oblivious", 4)
    loose, clean = module.flexible(images(4)), images(4)
    loose(clean[[1, 1, 1, 1]])  # every one of them nearest to the second
    assert module.settings.counter.queries.tolist() == [1, 1, 1, 1]


def test_variants_of_one_image_in_a_flexible_batch_meet_different_noise() -> None:
    module = seen(Pipeline(Linear(), None, Noisy()), "query", 2)
    loose, clean = module.flexible(images(2)), images(2)
    answers = loose(clean[[0, 0, 0]])
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[1], answers[2])
    assert module.settings.counter.queries.tolist() == [3, 0]


def test_the_budget_keeps_the_best_image_inside_the_ball() -> None:
    net, x = Linear(), images(3)
    y = net(x).argmax(1)
    counter = QueryCounter(x, y, ThreatModel(eps=0.1), Budget(queries=3))
    module = target_for(TargetSettings(Pipeline(net), counter), "oblivious", Stream.named("a", 0, torch.arange(3)))
    toward = (net.weight[1] - net.weight[0]).view(1, 1, 4, 4) * torch.where(y == 0, 1, -1).view(-1, 1, 1, 1)
    near, better, outside = ((x + size * toward.sign()).clamp(0, 1) for size in (0.05, 0.1, 0.3))
    for shown in (near, better, outside):
        module(shown)
    with pytest.raises(BudgetExceeded, match="more than 3 forward passes"):
        module(x)
    assert counter.exhausted
    assert torch.equal(counter.best, better)
    assert counter.queries.tolist() == [3, 3, 3]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_budget_keeps_images_on_the_sphere_in_spite_of_rounding(norm: str) -> None:
    """Adding eps to a pixel rounds: of thousands of pixels some lie a little further away than eps."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 64, 64, generator=generator)
    size = {"linf": 4 / 255, "l2": 0.5, "l1": 12.0}[norm]
    step = torch.randn(x.shape, generator=generator)
    delta = (
        step.sign() * size
        if norm == "linf"
        else step * size / ThreatModel(norm, 1.0).distance(step, 0 * step).view(-1, 1, 1, 1)
    )
    counter = QueryCounter(x, torch.zeros(4, dtype=torch.int64), ThreatModel(norm, size), Budget(queries=1))
    shown = (x + delta).clamp(0, 1)
    counter.record(torch.arange(4), shown, torch.tensor([[0.0, 1.0]]).repeat(4, 1))
    assert torch.equal(counter.best, shown)
    counter.record(torch.arange(4), x + 1.01 * delta, torch.tensor([[0.0, 2.0]]).repeat(4, 1))
    assert torch.equal(counter.best, shown)


def test_a_budget_of_gradients_stops_the_backward_pass() -> None:
    module = seen(Pipeline(Linear()), "oblivious", 2, budget=Budget(gradients=1))
    gradient_of(module, images(2))
    with pytest.raises(BudgetExceeded, match="more than 1 gradients"):
        gradient_of(module, images(2))


def test_goals_collapse_the_classes_to_two_sides() -> None:
    logits, y = torch.tensor([[1.0, 5.0, 3.0], [4.0, 0.0, 2.0]]), torch.tensor([1, 2])
    assert Goal().logits(logits, y) is logits
    assert Sides(1).logits(logits, y).tolist() == [[3.0, 5.0], [4.0, 0.0]]
    assert Sides(1).labels(y).tolist() == [1, 0]


def test_a_rejected_image_counts_as_answered_right_by_as_much_as_it_is_over() -> None:
    logits, y = torch.tensor([[0.0, 2.0], [0.0, 2.0], [3.0, 0.0]]), torch.zeros(3, dtype=torch.int64)
    seen_as = abstained(logits, y, torch.tensor([-1.0, 0.5, 0.5]))
    margins = seen_as[:, 1] - seen_as[:, 0]
    assert margins.tolist() == pytest.approx([2.0, -0.5, -3.5])


def test_query_answers_and_refuses_gradients() -> None:
    pipeline = Pipeline(Linear(), Brightness(), Halver(), GATE)
    module, x = seen(pipeline, "query", 4), images(4).requires_grad_()
    logits = module(x)
    assert torch.allclose(logits, pipeline(images(4), Stream.named("defense-under-attack", 0, torch.arange(4))))
    with pytest.raises(NotDefined, match="'query' gives no gradient"):
        logits.sum().backward()
