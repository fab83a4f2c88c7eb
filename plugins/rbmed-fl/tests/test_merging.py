"""The proximal term and optimizers on the server, against steps done by hand, and resumed bit for bit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from rbmed_fl.strategies.adaptive import FedAdam, FedYogi
from rbmed_fl.strategies.coordinatewise import FedMedian
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedavgm import FedAvgM
from rbmed_fl.strategies.fedprox import FedProx
from robustbench_med import TrainJob
from robustbench_med.testing import Stop, StopAfter
from robustbench_med.testing.side_effects import states_differ

SHORT = {"rounds": 3, "local_epochs": 2, "batch_size": 8}
SGD = {
    "local_epochs": 1,
    "batch_size": 1000,
    "optimizer": "sgd",
    "lr": 0.5,
    "weight_decay": 0,
    "schedule": "constant",
    "augment": False,
}
SERVER_OPTIMIZERS = [FedAvgM, FedAdam, FedYogi]


def states(strategy, build, clients, rounds, **params):
    """The merged parameters before the first round and after each of them, by trainings of increasing length."""

    def train(**more):
        return strategy(strategy.Params(**SGD | params | more)).train(build, clients, TrainJob()).shared

    start = FedAvg(FedAvg.Params(**SGD | {"rounds": 1, "lr": 1e-30})).train(build, clients, TrainJob()).shared
    return [start, *(train(rounds=number) for number in range(1, rounds + 1))]


def mean_update(build, clients, state):
    """The mean update of a round of FedAvg that starts at ``state``."""

    class Started(FedAvg):
        def classifier(self, build):
            made = build()
            made.load_state_dict(state)
            return made

    merged = Started(Started.Params(**SGD | {"rounds": 1})).train(build, clients, TrainJob()).shared
    return {name: merged[name] - state[name] for name in state}


def close(actual, expected):
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=2e-6, rtol=1e-4)


# --- optimizers on the server ---


def test_fedavgm_steps_by_hand(linear, clients):
    w0, w1, w2 = states(FedAvgM, linear, clients, 2, server_lr=0.7, momentum=0.6)
    d1, d2 = mean_update(linear, clients, w0), mean_update(linear, clients, w1)
    close(w1, {name: w0[name] + 0.7 * d1[name] for name in w0})
    close(w2, {name: w1[name] + 0.7 * (0.6 * d1[name] + d2[name]) for name in w0})


def test_fedadam_steps_by_hand(linear, clients):
    w0, w1, w2 = states(FedAdam, linear, clients, 2, server_lr=0.05, beta_1=0.8, beta_2=0.9, tau=0.01)
    d1, d2 = mean_update(linear, clients, w0), mean_update(linear, clients, w1)
    for name in w0:
        m1, v1 = 0.2 * d1[name], 0.1 * d1[name] ** 2
        m2, v2 = 0.8 * m1 + 0.2 * d2[name], 0.9 * v1 + 0.1 * d2[name] ** 2
        rate1 = 0.05 * (1 - 0.9**2) ** 0.5 / (1 - 0.8**2)  # Flower counts one round more than Adam
        rate2 = 0.05 * (1 - 0.9**3) ** 0.5 / (1 - 0.8**3)
        close({name: w1[name]}, {name: w0[name] + rate1 * m1 / (v1.sqrt() + 0.01)})
        close({name: w2[name]}, {name: w1[name] + rate2 * m2 / (v2.sqrt() + 0.01)})


def test_fedyogi_steps_by_hand(linear, clients):
    w0, w1, w2 = states(FedYogi, linear, clients, 2, server_lr=0.05, beta_1=0.8, beta_2=0.9, tau=0.01)
    d1, d2 = mean_update(linear, clients, w0), mean_update(linear, clients, w1)
    for name in w0:
        m1, v1 = 0.2 * d1[name], 0.1 * d1[name] ** 2
        m2, v2 = 0.8 * m1 + 0.2 * d2[name], v1 - 0.1 * d2[name] ** 2 * torch.sign(v1 - d2[name] ** 2)
        close({name: w1[name]}, {name: w0[name] + 0.05 * m1 / (v1.sqrt() + 0.01)})
        close({name: w2[name]}, {name: w1[name] + 0.05 * m2 / (v2.sqrt() + 0.01)})


@pytest.mark.parametrize("strategy", SERVER_OPTIMIZERS)
def test_buffers_are_averaged_and_stay_float32(strategy, mixture, clients):
    params = SHORT | {"rounds": 1}
    stepped = strategy(strategy.Params(**params, server_lr=5.0)).train(mixture, clients, TrainJob()).shared
    averaged = FedAvg(FedAvg.Params(**params)).train(mixture, clients, TrainJob()).shared
    for name in ("features.1.running_mean", "features.1.running_var"):
        assert torch.equal(stepped[name], averaged[name])
    assert not torch.allclose(stepped["features.0.weight"], averaged["features.0.weight"])
    assert all(value.dtype == averaged[name].dtype for name, value in stepped.items())


@pytest.mark.parametrize("strategy", [*SERVER_OPTIMIZERS, FedMedian])
@pytest.mark.parametrize("finished", [1, 2])
def test_killed_training_resumes_bit_identical(strategy, finished, mixture, clients, tmp_path):
    federation = strategy(strategy.Params(**SHORT))
    undisturbed = federation.train(mixture, clients, TrainJob(seed=1))
    progress = StopAfter(3 * finished + 2)
    with pytest.raises(Stop):
        federation.train(mixture, clients, TrainJob(seed=1, progress=progress, checkpoints=tmp_path))
    resumed = federation.train(mixture, clients, TrainJob(seed=1, checkpoints=tmp_path))
    assert not states_differ(resumed.shared, undisturbed.shared)
    assert [entry["round"] for entry in resumed.history] == [1, 2, 3]


def test_without_the_aggregator_state_the_result_differs(mixture, clients, tmp_path):
    """The test above can fail: without its moments FedAdam gives another result."""

    class Forgetful(FedAdam):
        def aggregator_state(self, aggregator):
            return {}

    federation = Forgetful(Forgetful.Params(**SHORT))
    with pytest.raises(Stop):
        federation.train(mixture, clients, TrainJob(progress=StopAfter(5), checkpoints=tmp_path))
    resumed = federation.train(mixture, clients, TrainJob(checkpoints=tmp_path))
    assert states_differ(resumed.shared, federation.train(mixture, clients, TrainJob()).shared)


# --- the proximal term ---


def test_fedprox_without_the_term_is_fedavg(mixture, clients):
    prox = FedProx(FedProx.Params(**SHORT, mu=0)).train(mixture, clients, TrainJob())
    plain = FedAvg(FedAvg.Params(**SHORT)).train(mixture, clients, TrainJob())
    assert not states_differ(prox.shared, plain.shared)


def test_fedprox_second_step_by_hand(linear, clients):
    """Two full-batch steps: the first has no penalty, the second subtracts lr mu (w1 - w0)."""
    one = {"south": clients["south"]}
    twice = {"local_epochs": 2}
    w0, w1 = states(FedAvg, linear, one, 1)
    plain = states(FedAvg, linear, one, 1, **twice)[1]
    prox = states(FedProx, linear, one, 1, mu=0.6, **twice)[1]
    close(prox, {name: plain[name] - 0.5 * 0.6 * (w1[name] - w0[name]) for name in w0})


def test_a_large_proximal_term_keeps_clients_near_the_received_weights(linear, clients):
    params = {"rounds": 1, "local_epochs": 50, "lr": 2e-3}
    start, *_ = states(FedAvg, linear, clients, 0)
    distance = [
        max(float((result[name] - start[name]).abs().max()) for name in start)
        for mu in (0, 100, 500)
        for result in (FedProx(FedProx.Params(**SGD | params, mu=mu)).train(linear, clients, TrainJob()).shared,)
    ]
    assert all(near * 3 < far for far, near in pairwise(distance))


@pytest.mark.parametrize("strategy", SERVER_OPTIMIZERS)
def test_server_optimizers_learn(strategy, mixture, clients):
    params = {"rounds": 5, "local_epochs": 4, "batch_size": 10, "lr": 0.02, "augment": False}
    history = strategy(strategy.Params(**params)).train(mixture, clients, TrainJob()).history
    assert history[-1]["clients"]["south"]["accuracy"] > 0.8
