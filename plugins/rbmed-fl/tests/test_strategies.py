"""Each strategy on problems with a known solution."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from rbmed_fl.strategies.bounds import Centralized, LocalOnly, pool
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedmoe import FedMoE
from robustbench_med import TrainJob
from robustbench_med.errors import DataError, HarnessError, UsageError
from robustbench_med.testing.side_effects import states_differ

ONE_STEP = {
    "rounds": 1,
    "local_epochs": 1,
    "batch_size": 1000,
    "optimizer": "sgd",
    "lr": 0.5,
    "weight_decay": 0,
    "schedule": "constant",
    "augment": False,
}
SHORT = {"rounds": 2, "local_epochs": 2, "batch_size": 8}


def initial_state(build, clients):
    """The initial weights the federation starts from: one step too small to move them."""
    params = FedAvg.Params(**ONE_STEP | {"lr": 1e-30})
    return FedAvg(params).train(build, clients, TrainJob()).shared


def sgd_step(state, split, lr=0.5):
    """One full-batch step of softmax regression, by hand."""
    x, y = split.images.flatten(1), split.labels
    logits = x @ state["head.weight"].T + state["head.bias"]
    error = (logits.softmax(1) - F.one_hot(y, logits.shape[1])) / len(y)
    return {
        "head.weight": state["head.weight"] - lr * error.T @ x,
        "head.bias": state["head.bias"] - lr * error.sum(0),
    }


def test_fedavg_of_linear_models_is_their_mean_weighted_by_examples(linear, clients):
    start = initial_state(linear, clients)
    result = FedAvg(FedAvg.Params(**ONE_STEP)).train(linear, clients, TrainJob())
    steps = {name: sgd_step(start, split) for name, split in clients.items()}
    for key, value in result.shared.items():
        mean = sum(len(clients[name]) * steps[name][key] for name in clients) / 55
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=0)
        unweighted = sum(steps[name][key] for name in clients) / 3
        assert not torch.allclose(value, unweighted, atol=1e-4)
    assert result.personal == {}


def test_fedavg_of_full_batch_steps_equals_centralized_training(linear, clients):
    params = {**ONE_STEP, "rounds": 4}
    federated = FedAvg(FedAvg.Params(**params)).train(linear, clients, TrainJob())
    central = Centralized(Centralized.Params(**params)).train(linear, clients, TrainJob())
    for key, value in federated.shared.items():
        torch.testing.assert_close(value, central.shared[key], atol=1e-6, rtol=0)


def test_centralized_is_training_on_the_pooled_images(mixture, clients):
    params = FedAvg.Params(**SHORT)
    central = Centralized(params).train(mixture, clients, TrainJob(seed=3))
    pooled = FedAvg(params).train(mixture, {"pooled": pool(clients)}, TrainJob(seed=3))
    assert not states_differ(central.shared, pooled.shared)
    assert central.personal == {}
    assert central.history[-1]["clients"]["pooled"]["num-examples"] == 55


def test_one_client_is_enough(mixture, clients):
    result = FedAvg(FedAvg.Params(**SHORT)).train(mixture, {"south": clients["south"]}, TrainJob())
    assert [list(entry["clients"]) for entry in result.history] == [["south"], ["south"]]


def test_local_gates_stay_with_their_clients(mixture, clients):
    result = FedMoE(FedMoE.Params(**SHORT)).train(mixture, clients, TrainJob())
    names = set(mixture().state_dict())
    assert set(result.shared) == names
    assert all(set(state) == {"gate.weight", "gate.bias"} for state in result.personal.values())
    gates = [state["gate.weight"] for state in result.personal.values()]
    assert not torch.equal(gates[0], gates[1])
    assert not torch.equal(gates[1], gates[2])
    mean = sum(len(clients[name]) * state["gate.weight"] for name, state in result.personal.items()) / 55
    torch.testing.assert_close(result.shared["gate.weight"], mean)


def test_shared_gates_are_fedavg(mixture, clients):
    shared = FedMoE(FedMoE.Params(**SHORT, gate="shared")).train(mixture, clients, TrainJob())
    fedavg = FedAvg(FedAvg.Params(**SHORT)).train(mixture, clients, TrainJob())
    assert shared.personal == {}
    assert not states_differ(shared.shared, fedavg.shared)


def test_local_gates_change_what_is_learnt(mixture, clients):
    local = FedMoE(FedMoE.Params(**SHORT)).train(mixture, clients, TrainJob())
    shared = FedMoE(FedMoE.Params(**SHORT, gate="shared")).train(mixture, clients, TrainJob())
    assert not torch.equal(local.shared["experts.0.weight"], shared.shared["experts.0.weight"])


def test_fedmoe_refuses_a_model_without_a_personal_part(linear, clients):
    with pytest.raises(UsageError, match="Linear declares none"):
        FedMoE().train(linear, clients, TrainJob())


def test_a_personal_prefix_that_names_nothing_is_refused(mixture, clients):
    class Wrong(mixture):
        personal = ("router.",)

    with pytest.raises(UsageError, match=r"no state of Wrong starts with its personal prefix 'router\.'"):
        FedMoE().train(Wrong, clients, TrainJob())


def test_local_clients_are_independent(mixture, clients):
    params = LocalOnly.Params(**SHORT)
    result = LocalOnly(params).train(mixture, clients, TrainJob())
    without_west = LocalOnly(params).train(mixture, {k: clients[k] for k in ("north", "south")}, TrainJob())
    assert set(result.personal["north"]) == set(mixture().state_dict())
    assert not states_differ(result.personal["north"], without_west.personal["north"])
    assert not states_differ(result.personal["south"], without_west.personal["south"])
    assert all(local_round["bytes-sent"] == 0 for entry in result.history for local_round in entry["clients"].values())


def test_batch_norm_statistics_are_averaged_and_counters_are_not(mixture, clients):
    params = FedAvg.Params(**SHORT | {"rounds": 1})
    result = FedAvg(params).train(mixture, clients, TrainJob())
    alone = LocalOnly(params).train(mixture, clients, TrainJob())
    key = "features.1.running_mean"
    mean = sum(len(clients[name]) * state[key] for name, state in alone.personal.items()) / 55
    torch.testing.assert_close(result.shared[key], mean)
    counter = result.shared["features.1.num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert counter == 0


def test_training_learns(mixture, clients):
    params = FedMoE.Params(rounds=5, local_epochs=4, batch_size=8, lr=0.02, augment=False)
    result = FedMoE(params).train(mixture, clients, TrainJob())
    first, last = (result.history[i]["clients"]["south"] for i in (0, -1))
    assert last["loss"] < first["loss"] / 2
    assert last["accuracy"] > 0.9


def test_divergence_is_an_error_that_names_the_client(linear, clients):
    with pytest.raises(HarnessError, match=r"client 'north' diverged in round 1: .*lr=1e\+38"):
        FedAvg(FedAvg.Params(**ONE_STEP | {"lr": 1e38, "local_epochs": 9})).train(linear, clients, TrainJob())


def test_no_clients_and_empty_clients_are_refused(linear, clients):
    with pytest.raises(DataError, match="no clients"):
        Centralized().train(linear, {}, TrainJob())
    empty = clients["west"].select(torch.tensor([], dtype=torch.int64))
    with pytest.raises(DataError, match="client 'west' has no training images"):
        FedAvg().train(linear, clients | {"west": empty}, TrainJob())


def test_the_strategy_in_the_readme_shares_only_the_heads(mixture, clients):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1), namespace)
    strategy = namespace["LGFedAvg"]
    params = strategy.Params(**SHORT | {"rounds": 1})
    result = strategy(params).train(mixture, clients, TrainJob())
    alone = LocalOnly(params).train(mixture, clients, TrainJob()).personal
    for name, state in result.personal.items():
        assert not states_differ(
            state, {key: value for key, value in alone[name].items() if key.startswith("features.")}
        )
    for key in ("experts.0.weight", "gate.bias"):
        mean = sum(len(clients[name]) * state[key] for name, state in alone.items()) / 55
        torch.testing.assert_close(result.shared[key], mean)
