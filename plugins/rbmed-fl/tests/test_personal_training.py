"""How clients of FedRep, Ditto and APFL train: steps by hand, and limits where one becomes a simpler strategy."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rbmed_fl.strategies.fedrep
from rbmed_fl.local_training import LocalRound, train_epochs
from rbmed_fl.states import add_prefix, to_cpu
from rbmed_fl.strategies.apfl import APFL
from rbmed_fl.strategies.bounds import LocalOnly
from rbmed_fl.strategies.ditto import Ditto
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedrep import FedRep
from robustbench_med import Classifier, Split, TrainJob
from robustbench_med.testing.side_effects import states_differ

#: Everything that draws random numbers is on.
NOISY = {"rounds": 3, "local_epochs": 2, "batch_size": 8, "noise": 0.1, "jitter": 0.1}
#: One step of gradient descent on all images in each local round.
PLAIN = {
    "local_epochs": 1,
    "batch_size": 1000,
    "optimizer": "sgd",
    "lr": 0.5,
    "weight_decay": 0,
    "schedule": "constant",
    "augment": False,
}
ATTACKED = pytest.mark.parametrize("adversarial", ["none", "pgd:steps=2,eps=0.1"])


def trained(strategy, build, clients, job=None, **params):
    return strategy(strategy.Params(**params)).train(build, clients, job or TrainJob())


def gradient(build, state, split) -> dict[str, Tensor]:
    """Of the loss in training mode on all images of the split, by state name."""
    model = build().train()
    model.load_state_dict(state)
    names, weights = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(model.loss(split.images, split.labels), weights), strict=True))


def mean_of(states, clients) -> dict[str, Tensor]:
    """Weighted by examples; ``states`` by client."""
    total = sum(len(split) for split in clients.values())
    return {
        key: sum(len(clients[name]) * state[key] for name, state in states.items()) / total
        for key in next(iter(states.values()))
    }


def close(state, expected, atol=1e-6) -> None:
    torch.testing.assert_close({key: state[key] for key in expected}, dict(expected), atol=atol, rtol=0)


# --- FedRep ---


class Normed(Classifier):
    """Batch normalisation in the features and in the head; nothing random."""

    heads = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Tanh())
        self.head = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@pytest.fixture
def normed():
    torch.manual_seed(0)
    return Normed()


def local_round_of(split: Split) -> LocalRound:
    return LocalRound("south", split.images, split.labels, 1, torch.Generator().manual_seed(0))


def part(state, head: bool) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith("head.") == head}


@ATTACKED
def test_fedrep_freezes_features_then_heads(adversarial, normed, clients, monkeypatch):
    states, epochs = [to_cpu(normed.state_dict())], []

    def recorded(classifier, local_round, params):
        states.append(to_cpu(classifier.state_dict()))
        epochs.append(params.local_epochs)
        return train_epochs(classifier, local_round, params)

    monkeypatch.setattr(rbmed_fl.strategies.fedrep, "train_epochs", recorded)
    params = FedRep.Params(**NOISY, head_epochs=3, adversarial=adversarial)
    FedRep(params).fit(normed, local_round_of(clients["south"]))
    start, before_heads, before_features, end = *states, to_cpu(normed.state_dict())
    assert epochs == [3, 2]
    assert not states_differ(start, before_heads)
    # Running statistics and counters included, of whatever does not train.
    assert not states_differ(part(before_heads, False), part(before_features, False))
    assert not states_differ(part(before_features, True), part(end, True))
    assert not any(torch.equal(value, end[name]) for name, value in part(before_features, False).items())
    assert not any(torch.equal(value, before_features[name]) for name, value in part(before_heads, True).items())


def test_fedrep_by_hand(normed, clients):
    south, build = clients["south"], Normed
    start = to_cpu(normed.state_dict())
    slope = gradient(build, start, south)
    stepped = {name: start[name] - 0.5 * slope[name] for name in slope}
    expected = start | part(stepped, True)
    slope = gradient(build, expected, south)
    expected |= part({name: expected[name] - 0.5 * slope[name] for name in slope}, False)
    FedRep(FedRep.Params(**PLAIN, head_epochs=1)).fit(normed, local_round_of(south))
    close(normed.state_dict(), {name: expected[name] for name in slope})
    together = {name: stepped[name] for name in part(slope, False)}
    assert not torch.allclose(normed.state_dict()["features.1.weight"], together["features.1.weight"], atol=1e-4)


# --- Ditto ---


@ATTACKED
def test_ditto_without_proximal_term_is_local_training(adversarial, mixture, clients):
    params = NOISY | {"adversarial": adversarial}
    ditto, local = trained(Ditto, mixture, clients, **params, lam=0), trained(LocalOnly, mixture, clients, **params)
    assert not any(states_differ(ditto.personal[name], local.personal[name]) for name in clients)


def test_ditto_by_hand(linear, clients):
    lam, lr = 0.4, 0.5
    # After one local round the personal model is one step from where the global one started.
    first = trained(Ditto, linear, clients, **PLAIN, rounds=1, lam=lam)
    second = trained(Ditto, linear, clients, **PLAIN, rounds=2, lam=lam)
    for name, split in clients.items():
        v, w = first.personal[name], first.shared
        slope = gradient(linear, v, split)
        close(second.personal[name], {key: v[key] - lr * (slope[key] + lam * (v[key] - w[key])) for key in v})


def test_ditto_with_a_large_proximal_term_is_the_received_global_model(linear, clients):
    lr, rounds = 1e-3, 5
    params = PLAIN | {"lr": lr, "lam": 1 / lr}
    received = trained(FedAvg, linear, clients, **PLAIN | {"lr": lr}, rounds=rounds - 1).shared
    result = trained(Ditto, linear, clients, **params, rounds=rounds)
    for name in clients:
        # lam * lr = 1 puts it exactly there, except for its last gradient step (at most sqrt(2) * |x| < 10 long).
        difference = torch.cat([(result.personal[name][key] - received[key]).flatten() for key in received])
        assert 0 < difference.norm() < 10 * lr


def test_ditto_is_nearer_to_the_global_model_with_a_larger_proximal_term(mixture, clients):
    weights = [name for name, _ in mixture().named_parameters()]

    def distance(lam: float) -> float:
        result = trained(Ditto, mixture, clients, **NOISY | {"optimizer": "sgd", "lr": 0.1}, lam=lam)
        return sum(float((result.personal["south"][key] - result.shared[key]).norm()) for key in weights)

    distances = [distance(lam) for lam in (0, 0.3, 3)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.7 * distances[0]


# --- APFL ---

fixed = partial(trained, APFL, adaptive=False)


@ATTACKED
def test_apfl_of_personal_weights_only_is_local_training(adversarial, mixture, clients):
    params = NOISY | {"adversarial": adversarial}
    apfl, local = fixed(mixture, clients, **params, alpha=1), trained(LocalOnly, mixture, clients, **params)
    assert not any(states_differ(apfl.personal[name], local.personal[name]) for name in clients)


def test_apfl_of_global_weights_only_is_fedavg_with_local_statistics(mixture, clients):
    params = NOISY | {"rounds": 1}
    apfl, fedavg = fixed(mixture, clients, **params, alpha=0), trained(FedAvg, mixture, clients, **params)
    copies = trained(LocalOnly, mixture, clients, **params)  # what each client makes of the global model in one round
    weights = {name for name, _ in mixture().named_parameters()}
    for name, state in apfl.personal.items():
        assert not states_differ({key: state[key] for key in weights}, {key: fedavg.shared[key] for key in weights})
        statistics = state.keys() - weights
        assert not states_differ(
            {key: state[key] for key in statistics}, {key: copies.personal[name][key] for key in statistics}
        )


@pytest.mark.parametrize("adaptive", [False, True])
def test_apfl_by_hand(adaptive, linear, clients):
    lr, rounds = 0.5, 4
    start = trained(FedAvg, linear, clients, **PLAIN | {"lr": 1e-30}, rounds=1).shared
    w, alpha = start, dict.fromkeys(clients, 0.3)
    v = dict.fromkeys(clients, start)

    def mix(name):
        return {key: alpha[name] * v[name][key] + (1 - alpha[name]) * w[key] for key in w}

    for _ in range(rounds):
        sent = {}
        for name, split in clients.items():
            slope = gradient(linear, mix(name), split)
            step = gradient(linear, w, split)
            sent[name] = {key: w[key] - lr * step[key] for key in w}
            by_alpha = sum(float(((v[name][key] - w[key]) * slope[key]).sum()) for key in w)
            v[name] = {key: v[name][key] - lr * alpha[name] * slope[key] for key in w}
            if adaptive:
                alpha[name] = min(1.0, max(0.0, alpha[name] - lr * by_alpha))
        w = mean_of(sent, clients)
    result = trained(APFL, linear, clients, **PLAIN, rounds=rounds, alpha=0.3, adaptive=adaptive)
    close(result.shared, w)
    for name in clients:
        close(result.personal[name], mix(name))
    if adaptive:
        assert len({round(value, 4) for value in alpha.values()}) == 3
        assert 0.3 not in alpha.values()


def test_apfl_measures_statistics_on_the_mixture(mixture, clients):
    params = PLAIN | {"alpha": 0.5}
    first, second = (fixed(mixture, clients, **params, rounds=rounds) for rounds in (1, 2))
    key = "features.1.running_mean"
    for name, split in clients.items():
        # What is deployed after the first round is what the one step of the second is taken with.
        before = first.personal[name]
        inputs = F.conv2d(split.images, before["features.0.weight"], before["features.0.bias"], stride=2)
        close(second.personal[name], {key: 0.9 * before[key] + 0.1 * inputs.mean((0, 2, 3))})
        assert not torch.allclose(second.personal[name][key], second.shared[key], atol=1e-4)


@pytest.mark.parametrize(("sign", "end"), [(1, 0.0), (-1, 1.0)])
def test_apfl_alpha_stops_at_the_ends_of_its_range(sign, end, linear, clients):
    south = clients["south"]
    torch.manual_seed(0)
    model = linear()
    w = to_cpu(model.state_dict())
    slope = gradient(linear, w, south)
    # Personal weights far uphill or downhill of the global ones: the step of alpha is many times its range.
    v = {key: w[key] + sign * 1000 * slope[key] for key in w}
    local_round = local_round_of(south)
    local_round.client_state.update(add_prefix("own", v) | {"alpha": torch.tensor(1e-4)})
    APFL(APFL.Params(**PLAIN, adaptive=True)).fit(model, local_round)
    assert float(local_round.client_state["alpha"]) == end
    assert local_round.client_state.keys() == {"alpha", "own/head.weight", "own/head.bias"}
