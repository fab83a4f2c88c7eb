"""Adversarial training: the attack against closed forms, the objectives against their definitions and limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rbmed_fl.adversarial_training import (
    PGDTraining,
    TRADESTraining,
    _divergence_of_findings,
    eval_mode,
    objective,
    parse_adversarial,
)
from rbmed_fl.strategies.fedavg import FedAvg
from robustbench_med import Classifier, Split, TrainJob, right_answers
from robustbench_med.errors import BadParameter

BOTH = ["pgd:steps=3,eps=0.05", "trades:steps=3,eps=0.05"]
FULL_BATCH = {
    "rounds": 3,
    "local_epochs": 2,
    "batch_size": 1000,
    "optimizer": "sgd",
    "lr": 0.5,
    "weight_decay": 0,
    "schedule": "constant",
    "augment": False,
}


class Binary(Classifier):
    """A linear classifier of two classes that records every batch it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 2)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach())
        return self.head(10 * (x - 0.5).flatten(1))


class Own(Binary):
    """One whose loss has a term of its own."""

    def loss(self, x, y):
        return F.cross_entropy(self(x), y) + 7


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)
    return


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_of(text: str, seed: int = 0, number: int = 1):
    return objective(text, generator(seed), number)


def batch(n: int = 12, low: float = 0.0, high: float = 1.0, classes: int = 2):
    x = torch.rand(n, 1, 8, 8, generator=generator(9)) * (high - low) + low
    return x, torch.arange(n) % classes


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["pgd", "trades"])
def test_attacked_images_stay_in_the_ball_and_in_range(kind, norm):
    x, y = batch()
    x = x.round()  # at the ends of the range, where a step can leave it
    model = Binary()
    loss_of(f"{kind}:eps=0.3,norm={norm}")(model, x, y)
    attacked = model.seen[-1]
    offset = (attacked - x).flatten(1)
    length = offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)
    assert length.max() <= 0.3 + 1e-6
    assert length.min() > 0.05
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert attacked.dtype == torch.float32


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball(norm):
    x = torch.full((4000, 1, 2, 1), 0.5)
    offset = (PGDTraining(norm=norm, eps=0.1).random_start(x, generator()) - x).flatten(1)
    length = (offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)) / 0.1
    assert length.max() <= 1
    # In the plane, a ball of half the radius holds a quarter of the area.
    assert (length < 0.5).float().mean() == pytest.approx(0.25, abs=0.03)
    assert offset.mean(0).abs().max() < 0.005


def test_linf_attack_on_a_linear_model_is_the_closed_form():
    x, y = batch(low=0.2, high=0.8)
    model = Binary()
    loss_of("pgd:eps=0.1")(model, x, y)
    weight = model.head.weight.detach()
    uphill = (weight[1 - y] - weight[y]).view_as(x)
    torch.testing.assert_close(model.seen[-1], x + 0.1 * uphill.sign())


def test_l2_attack_on_a_linear_model_approaches_the_closed_form():
    x, y = batch(low=0.3, high=0.7)
    model = Binary()
    loss_of("pgd:eps=0.2,norm=l2,steps=200,step_size=0.05")(model, x, y)
    weight = model.head.weight.detach()
    uphill = (weight[1 - y] - weight[y]).view_as(x)
    best = x + 0.2 * uphill / uphill.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(model.seen[-1], best, atol=1e-4, rtol=0)


def test_the_attack_raises_the_loss_and_more_steps_raise_it_more(mixture):
    x, y = batch(30, classes=3)
    model = mixture().eval()

    def after(steps: int) -> float:
        pgd, gain = PGDTraining(eps=0.1, steps=steps), lambda images: F.cross_entropy(model(images), y, reduction="sum")
        return gain(pgd.attack(gain, x, x)).item()

    assert F.cross_entropy(model(x), y, reduction="sum").item() + 0.1 < after(1) < after(10)


def test_gradients_statistics_and_modes_are_unchanged(mixture):
    x, y = batch(classes=3)
    model = mixture().train()
    model.features[1].eval()  # a strategy may train with frozen statistics
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for text in BOTH:
        loss_of(text)(model, x, y)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert [name for name, part in model.named_modules() if not part.training] == ["features.1"]


@pytest.mark.parametrize(("text", "passes"), [(BOTH[0], 1), (BOTH[1], 2)])
def test_only_the_step_itself_touches_running_statistics(text, passes, mixture):
    x, y = batch(classes=3)
    model = mixture().train()
    loss_of(text)(model, x, y)
    assert model.features[1].num_batches_tracked == passes


def test_modes_are_restored_after_an_error(mixture):
    model = mixture().train()

    def fail():
        with eval_mode(model):
            assert not any(part.training for part in model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize("text", BOTH)
def test_the_generator_alone_decides(text):
    x, y = batch()
    model = Binary()

    def attacked(seed: int):
        torch.rand(seed + 1)
        loss_of(f"{text},step_size=0.001", seed)(model, x, y)
        return model.seen[-1]

    first = attacked(1)
    assert torch.equal(first, attacked(1))
    assert not torch.equal(first, attacked(2))


@pytest.mark.parametrize("text", ["pgd:eps=1e-7", "trades:eps=1e-7"])
def test_a_vanishing_ball_is_clean_training(text, linear, clients):
    clean = FedAvg(FedAvg.Params(**FULL_BATCH)).train(linear, clients, TrainJob())
    attacked = FedAvg(FedAvg.Params(**FULL_BATCH, adversarial=text)).train(linear, clients, TrainJob())
    for key, value in clean.shared.items():
        torch.testing.assert_close(attacked.shared[key], value, atol=1e-5, rtol=0)


def test_trades_without_divergence_is_clean_training(linear, clients):
    clean, trades, pgd = (
        FedAvg(FedAvg.Params(**FULL_BATCH, adversarial=text)).train(linear, clients, TrainJob()).shared["head.weight"]
        for text in ("none", "trades:beta=0,eps=0.1", "pgd:eps=0.1")
    )
    torch.testing.assert_close(trades, clean, atol=1e-6, rtol=0)
    assert (pgd - clean).abs().max() > 1e-3


def test_trades_is_its_definition():
    x, y = batch()
    model = Binary()
    loss = loss_of("trades:beta=5,eps=0.1")(model, x, y)
    attacked, clean = model(model.seen[-1]), model(x)
    p, q = clean.softmax(1), attacked.softmax(1)
    divergence = (p * (p / q).log()).sum(1)
    assert divergence.min() > 0
    torch.testing.assert_close(loss, F.cross_entropy(clean, y) + 5 * divergence.mean())


def test_the_models_own_loss_is_kept():
    x, y = batch()
    own, plain = Own(), Binary()
    own.load_state_dict(plain.state_dict())
    for text in BOTH:
        torch.testing.assert_close(loss_of(text)(own, x, y), loss_of(text)(plain, x, y) + 7)


def test_images_are_clean_in_the_rounds_of_the_warm_up():
    x, y = batch()
    for number, attacked in ((1, False), (2, False), (3, True)):
        model = Binary()
        loss_of("pgd:warmup=2,eps=0.1", number=number)(model, x, y)
        assert torch.equal(model.seen[-1], x) is not attacked


def test_a_share_of_the_batch_stays_clean():
    x, y = batch(12, 0.2, 0.8)
    model = Binary()
    loss_of("pgd:eps=0.1,clean=1/4")(model, x, y)
    changed = (model.seen[-1] != x).flatten(1).any(1)
    assert changed.tolist() == [False] * 3 + [True] * 9
    assert all(len(images) == 9 for images in model.seen[:-1])  # nothing is computed on the others


@pytest.mark.parametrize("text", BOTH)
def test_autocast_attacks_in_float32_and_reaches_every_weight(text, mixture):
    x, y = batch(classes=3)
    model = mixture().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(text)(model, x, y)
    torch.autograd.backward(loss)
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())
    assert loss.item() == pytest.approx(loss_of(text)(model, x, y).item(), rel=0.2)


def test_adversarial_training_is_more_robust_than_plain():
    """One strong pixel that is right for 9 of 10 images, and 63 weaker than the ball that are right for all."""
    y = torch.arange(40) % 2
    sign = (2 * y - 1).float()
    x = torch.full((40, 1, 64), 0.5) + 0.03 * sign.view(-1, 1, 1)
    x[:, 0, 0] = 0.5 + 0.1 * sign * torch.where(torch.arange(40) % 20 < 2, -1, 1)
    split = Split(x.view(40, 1, 8, 8), y, tuple(map(str, range(40))), ("a",) * 40)

    def accuracies(text: str) -> list[float]:
        params = FedAvg.Params(**FULL_BATCH | {"rounds": 1, "local_epochs": 200}, adversarial=text)
        model = Binary()
        model.load_state_dict(FedAvg(params).train(Binary, {"a": split}, TrainJob()).shared)
        loss_of("pgd:eps=0.04,steps=10")(model, split.images, y)
        return [int((model(x).argmax(1) == y).sum()) for x in (split.images, model.seen[-1])]

    assert accuracies("none") == [40, 0]
    assert accuracies("pgd:eps=0.04") == [36, 36]
    assert accuracies("trades:eps=0.04,beta=10") == [36, 36]


def test_equal_seeds_give_equal_weights(mixture, clients):
    params = FedAvg.Params(rounds=2, local_epochs=1, batch_size=8, adversarial=BOTH[0])
    one, two, three = (FedAvg(params).train(mixture, clients, TrainJob(seed=seed)).shared for seed in (1, 1, 2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["experts.0.weight"], three["experts.0.weight"])


def test_text_is_parsed_with_fractions():
    assert parse_adversarial("none") is None
    assert parse_adversarial("pgd") == PGDTraining(eps=4 / 255, norm="linf", steps=5, step_size=None, clean=0)
    assert parse_adversarial("pgd:eps=8/255,steps=3,step_size=2/255,clean=1/2") == PGDTraining(
        eps=8 / 255, steps=3, step_size=2 / 255, clean=0.5
    )
    assert parse_adversarial("trades:steps=3,beta=3/2") == TRADESTraining(steps=3, beta=1.5)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("fgsm", "unknown adversarial 'fgsm'; valid: none, pgd, trades"),
        (
            "pgd:stepz=3",
            "unknown parameter 'stepz', did you mean 'steps'? valid: eps, norm, steps, step_size, warmup, clean",
        ),
        ("pgd:steps=0", "steps='0' should be greater than or equal to 1"),
        ("pgd:far", "eps='far' should be a valid number"),
        ("pgd:eps=1/0", "'1/0' is not a number or a fraction"),
        ("pgd:eps=", "'eps=' is not key=value"),
        ("trades:clean=0.5", "unknown parameter 'clean'; valid: eps, norm, steps, step_size, warmup, beta"),
    ],
)
def test_invalid_text_is_refused_when_the_parameters_are_created(text, fault):
    with pytest.raises(BadParameter) as caught:
        FedAvg.Params(adversarial=text)
    message = str(caught.value)
    assert "adversarial" in message
    assert fault in message
    assert "\n" not in message


def test_the_divergence_of_findings_is_that_of_each_by_itself():
    p, q = torch.randn(5, 3), torch.randn(5, 3)
    a, b = p.sigmoid(), q.sigmoid()
    expected = (a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()).sum() / 3
    torch.testing.assert_close(_divergence_of_findings(p, q), expected)


@pytest.mark.parametrize("adversarial", ["none", *BOTH])
def test_findings_are_learnt(adversarial):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (40, 2), generator=generator)
    images = 0.3 + 0.02 * torch.rand(40, 1, 8, 8, generator=generator)
    images[:, 0, :4] += 0.4 * labels[:, :1, None]
    images[:, 0, 4:] += 0.4 * labels[:, 1:, None]
    split = Split(images, labels, tuple(map(str, range(40))), ("a",) * 40)
    torch.manual_seed(0)
    strategy = FedAvg(FedAvg.Params(**{**FULL_BATCH, "lr": 0.05, "rounds": 10, "adversarial": adversarial}))
    made = strategy.train(Binary, {"a": split}, TrainJob())
    trained = Binary()
    trained.load_state_dict(made.shared)
    assert right_answers(trained(images), labels).float().mean() > 0.9


def test_a_backdoor_in_findings_is_refused():
    split = Split(torch.rand(4, 1, 8, 8), torch.ones(4, 2).long(), tuple("abcd"), ("a",) * 4)
    strategy = FedAvg(FedAvg.Params(**{**FULL_BATCH, "malicious": "backdoor"}))
    with pytest.raises(BadParameter, match="images here have several findings"):
        strategy.train(Binary, {"a": split, "b": split}, TrainJob())
