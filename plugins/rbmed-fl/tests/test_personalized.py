"""Personalized strategies: what stays and what is sent."""

from __future__ import annotations

import pytest
import torch
from flwr.app import ArrayRecord
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from rbmed_fl.strategies.apfl import APFL
from rbmed_fl.strategies.bounds import LocalOnly
from rbmed_fl.strategies.ditto import Ditto
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedbn import FedBN
from rbmed_fl.strategies.fedrep import FedPer, FedRep
from robustbench_med import Split, TrainJob
from robustbench_med.errors import HarnessError, UsageError
from robustbench_med.testing import Stop, StopAfter
from robustbench_med.testing.side_effects import states_differ

ALL = [FedBN, FedPer, FedRep, Ditto, APFL]
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


def floats(state) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if value.is_floating_point()}


def trained(strategy, build, clients, job=None, **params):
    return strategy(strategy.Params(**params)).train(build, clients, job or TrainJob())


def mean_of(states, clients) -> dict[str, Tensor]:
    """Weighted by examples; ``states`` by client."""
    total = sum(len(split) for split in clients.values())
    return {
        key: sum(len(clients[name]) * state[key] for name, state in states.items()) / total
        for key in next(iter(states.values()))
    }


def close(state, expected, atol=1e-6) -> None:
    torch.testing.assert_close({key: state[key] for key in expected}, dict(expected), atol=atol, rtol=0)


@pytest.fixture
def sent(monkeypatch):
    """The arrays of every message, to and from a client, in order."""
    seen: list[ArrayRecord] = []
    call = ClientApp.__call__

    def spy(app, message, context):
        seen.append(message.content["arrays"])
        reply = call(app, message, context)
        seen.append(reply.content["arrays"])
        return reply

    monkeypatch.setattr(ClientApp, "__call__", spy)
    return seen


# --- all of them ---


@pytest.mark.parametrize("strategy", ALL)
def test_shared_and_deployed_states_are_complete(strategy, mixture, clients):
    result = trained(strategy, mixture, clients, **NOISY)
    assert result.personal.keys() == clients.keys()
    mixture().load_state_dict(result.shared)
    for state in result.personal.values():
        mixture().load_state_dict(result.shared | state)
    deployed = [floats(result.shared | state) for state in result.personal.values()]
    assert all(states_differ(deployed[i], deployed[j]) for i, j in ((0, 1), (1, 2), (0, 2)))


@pytest.mark.parametrize(
    ("strategy", "own"), [(FedBN, {}), (FedPer, {}), (FedRep, {}), (Ditto, {}), (APFL, {"adaptive": True})]
)
def test_killed_training_resumes_bit_identical(strategy, own, mixture, clients, tmp_path):
    undisturbed = trained(strategy, mixture, clients, **NOISY, **own)
    with pytest.raises(Stop):  # in the middle of the second round
        trained(strategy, mixture, clients, TrainJob(progress=StopAfter(5), checkpoints=tmp_path), **NOISY, **own)
    resumed = trained(strategy, mixture, clients, TrainJob(checkpoints=tmp_path), **NOISY, **own)
    assert not states_differ(resumed.shared, undisturbed.shared)
    assert not any(states_differ(resumed.personal[name], undisturbed.personal[name]) for name in clients)


@pytest.mark.parametrize("strategy", [FedBN, FedPer, FedRep])
def test_what_stays_is_in_no_message(strategy, mixture, clients, sent):
    result = trained(strategy, mixture, clients, **NOISY)
    stays = ("features.1.",) if strategy is FedBN else mixture.heads
    assert len(sent) == 2 * 3 * 3
    everything = set(floats(mixture().state_dict()))
    assert all(set(record) == {name for name in everything if not name.startswith(stays)} for record in sent)
    assert all(all(name.startswith(stays) for name in state) for state in result.personal.values())


@ATTACKED
@pytest.mark.parametrize("strategy", [Ditto, APFL])
def test_messages_are_the_same_as_fedavgs(strategy, adversarial, mixture, clients, sent):
    def content():
        content = [{name: array.data for name, array in record.items()} for record in sent]
        sent.clear()
        return content

    fedavg = trained(FedAvg, mixture, clients, **NOISY, adversarial=adversarial)
    expected = content()
    result = trained(strategy, mixture, clients, **NOISY, adversarial=adversarial)
    assert content() == expected
    assert not states_differ(result.shared, fedavg.shared)


@pytest.mark.parametrize("strategy", ALL)
def test_attacked_training_is_not_clean_training(strategy, mixture, clients):
    params = NOISY | {"rounds": 1}
    clean = trained(strategy, mixture, clients, **params)
    hard = trained(strategy, mixture, clients, **params, adversarial="pgd:steps=2,eps=0.1")
    for name in clients:
        assert states_differ(floats(clean.personal[name]), floats(hard.personal[name]))


@pytest.mark.parametrize(
    ("strategy", "own"),
    [
        (FedPer, {}),
        (FedRep, {}),
        (Ditto, {"lam": 0.1}),
        (APFL, {"alpha": 0.5}),
        (APFL, {"alpha": 0.5, "adaptive": True}),
    ],
)
def test_clients_with_contradictory_labels_get_accurate_models(strategy, own, mixture, clients):
    north = clients["south"]
    disagree = {"north": north, "south": Split(north.images, 2 - north.labels, north.patients, north.sites)}
    params = {"rounds": 5, "local_epochs": 4, "batch_size": 10, "lr": 0.02, "augment": False}

    def worst(result) -> float:
        accuracies = []
        for name, split in disagree.items():
            model = mixture().eval()
            model.load_state_dict(result.shared | result.personal.get(name, {}))
            accuracies.append(float((model(split.images).argmax(1) == split.labels).float().mean()))
        return min(accuracies)

    # Labels 0 and 2 are exchanged: one model can be correct on two thirds of all images.
    assert worst(trained(FedAvg, mixture, disagree, **params)) <= 0.67  # 2 / 3, in float32
    assert worst(trained(strategy, mixture, disagree, **params, **own)) > 0.9


@pytest.mark.parametrize("strategy", [Ditto, APFL])
def test_divergence_is_an_error_that_names_the_client(strategy, linear, clients):
    with pytest.raises(HarnessError, match="client 'north' diverged in round 1"):
        trained(strategy, linear, clients, **PLAIN | {"lr": 1e38, "local_epochs": 9, "rounds": 1})


# --- FedBN and FedPer ---


def test_fedbn_finds_batch_norm_of_every_kind_at_any_depth(mixture):
    model = mixture()
    model.gate = nn.Sequential(nn.Linear(36, 2), nn.Sequential(nn.BatchNorm1d(2)))
    assert FedBN().local_prefixes(model) == ("features.1.", "gate.1.0.")


def test_fedbn_keeps_statistics_at_each_client(mixture, clients):
    result = trained(FedBN, mixture, clients, **NOISY)
    names = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    for state in result.personal.values():
        assert set(state) == {f"features.1.{name}" for name in names}
    mean = mean_of({name: floats(state) for name, state in result.personal.items()}, clients)
    close(result.shared, mean)
    # Statistics of one batch norm layer behind one convolution: those of that layer's inputs, roughly, at each client.
    spread = torch.stack([state["features.1.running_mean"] for state in result.personal.values()]).std(0)
    assert spread.max() > 1e-3


@pytest.mark.parametrize(("strategy", "stays"), [(FedBN, ("features.1.",)), (FedPer, ("experts.", "gate."))])
def test_one_round_sends_the_mean_and_keeps_the_rest(strategy, stays, mixture, clients):
    result = trained(strategy, mixture, clients, **NOISY | {"rounds": 1})
    alone = trained(LocalOnly, mixture, clients, **NOISY | {"rounds": 1}).personal
    for name, state in alone.items():
        assert not states_differ(
            result.personal[name], {key: value for key, value in state.items() if key.startswith(stays)}
        )
    mean = mean_of({name: floats(state) for name, state in alone.items()}, clients)
    close(result.shared, mean)


@pytest.mark.parametrize("strategy", [FedBN, FedPer])
def test_with_one_client_they_are_fedavg(strategy, mixture, clients):
    one = {"south": clients["south"]}
    result = trained(strategy, mixture, one, **NOISY)
    assert not states_differ(floats(result.shared), floats(trained(FedAvg, mixture, one, **NOISY).shared))
    assert not states_differ(floats(result.shared | result.personal["south"]), floats(result.shared))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (FedBN, "strategy fedbn keeps batch normalisation .* Linear has none; use a model with batch norm.*'fedavg'"),
        (FedPer, "strategy fedper keeps .* Linear declares none .*'fedavg'"),
        (FedRep, "strategy fedrep keeps .* Linear declares none .*'fedavg'"),
    ],
)
def test_a_model_without_the_part_that_stays_is_refused(strategy, message, linear, clients):
    with pytest.raises(UsageError, match=message) as caught:
        trained(strategy, linear, clients)
    assert "\n" not in str(caught.value)
