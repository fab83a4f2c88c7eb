"""Differential privacy: clipping, noise, what it costs, and what is covered."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flwr.clientapp import ClientApp

from rbmed_fl.privacy import add_noise, parse_privacy
from rbmed_fl.strategies.adaptive import FedAdam
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedavgm import FedAvgM
from rbmed_fl.strategies.fedbn import FedBN
from rbmed_fl.strategies.fedprox import FedProx
from robustbench_med import TrainJob
from robustbench_med.errors import BadParameter, UsageError
from robustbench_med.testing.side_effects import states_differ

SHORT = {"rounds": 2, "local_epochs": 1, "batch_size": 8}


def made(strategy, **params):
    return strategy(strategy.Params(**(SHORT | params)))


@pytest.fixture
def sent(monkeypatch):
    """Arrays that clients receive and send, in turn."""
    seen = []
    call = ClientApp.__call__

    def spy(app, message, context):
        arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
        reply = call(app, message, context)
        seen.append((arrays, {name: array.numpy() for name, array in reply.content["arrays"].items()}))
        return reply

    monkeypatch.setattr(ClientApp, "__call__", spy)
    return seen


def length(received, reply) -> float:
    return math.sqrt(sum(float(np.square(reply[name].astype(float) - received[name]).sum()) for name in received))


def test_updates_are_clipped_and_their_mean_has_equal_weights(linear, clients, sent):
    bound = 0.01
    found = made(FedAvg, rounds=1, privacy=f"dp:noise_multiplier=0,clipping={bound}").train(linear, clients, TrainJob())
    assert [length(*pair) for pair in sent] == pytest.approx([bound] * 3, rel=1e-4)
    for name, value in found.shared.items():
        np.testing.assert_allclose(value, np.mean([reply[name] for _, reply in sent], axis=0), atol=1e-6)
    assert "privacy" not in found.history[0]  # without noise there is no guarantee


def test_a_short_update_is_not_changed(linear, clients, sent):
    made(FedAvg, rounds=1, privacy="dp:noise_multiplier=0,clipping=1000").train(linear, clients, TrainJob())
    clipped = list(sent)
    sent.clear()
    made(FedAvg, rounds=1).train(linear, clients, TrainJob())
    for (_, reply), (_, plain) in zip(clipped, sent, strict=True):
        for name, value in reply.items():
            np.testing.assert_allclose(value, plain[name], atol=1e-6)


def test_noise_has_the_stated_deviation_and_repeats():
    privacy = parse_privacy("dp:noise_multiplier=0.5,clipping=2")
    mean = {"w": np.zeros((300, 200), np.float32), "b": np.zeros(7000, np.float32)}
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    add_noise(mean, privacy, 10, 1)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert mean["w"].std() == pytest.approx(0.5 * 2 / 10, rel=0.02)
    assert mean["b"].std() == pytest.approx(0.5 * 2 / 10, rel=0.05)
    again, other = ({name: np.zeros_like(value) for name, value in mean.items()} for _ in range(2))
    add_noise(again, privacy, 10, 1)
    add_noise(other, privacy, 10, 2)
    assert np.array_equal(again["w"], mean["w"])
    assert not np.array_equal(other["w"], mean["w"])


@pytest.mark.parametrize("strategy", [FedAvg, FedProx, FedAvgM, FedAdam, FedBN])
def test_equal_seeds_give_equal_bits_also_after_an_interruption(strategy, mixture, clients, tmp_path):
    class Stop:
        notes = 0

        def task(self, description, total):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return None

        def advance(self, steps=1, note=""):
            self.notes += bool(note)
            if self.notes == 5:
                raise KeyboardInterrupt

    private = made(strategy, rounds=3, privacy="dp:noise_multiplier=0.2,clipping=0.5")
    first = private.train(mixture, clients, TrainJob())
    with pytest.raises(KeyboardInterrupt):
        private.train(mixture, clients, TrainJob(progress=Stop(), checkpoints=tmp_path))
    again = private.train(mixture, clients, TrainJob(checkpoints=tmp_path))
    assert not states_differ(first.shared, again.shared)
    assert [entry["privacy"] for entry in first.history] == [entry["privacy"] for entry in again.history]
    assert all(torch.isfinite(value).all() for value in first.shared.values())


def test_statistics_of_batch_normalisation_stay_with_the_client(mixture, clients, sent):
    found = made(FedAvg, privacy="dp:noise_multiplier=5,clipping=1").train(mixture, clients, TrainJob())
    assert not any("running" in name for received, reply in sent for name in [*received, *reply])
    assert set(found.personal["north"]) == {"features.1.running_mean", "features.1.running_var"}
    assert (found.shared["features.1.running_var"] > 0).all()


def test_epsilon_is_that_of_the_gaussian_mechanism_composed_over_rounds(linear, clients):
    """Against the best bound on the orders of Renyi divergence, computed here: T alpha / (2 z^2) for T rounds."""

    def bound(multiplier, rounds, delta):
        def at(order):
            divergence = rounds * order / (2 * multiplier**2)
            return divergence + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)

        return min(at(1 + step / 100) for step in range(1, 20000))

    privacy = parse_privacy("dp:noise_multiplier=2,delta=1e-5")
    for rounds in (1, 2, 10):
        assert privacy.epsilon(rounds) == pytest.approx(bound(2, rounds, 1e-5), rel=0.02)
    assert privacy.epsilon(2) < parse_privacy("dp:noise_multiplier=1").epsilon(2)
    found = made(FedAvg, privacy="dp:noise_multiplier=2").train(linear, clients, TrainJob())
    assert [entry["privacy"] for entry in found.history] == [
        {"epsilon": privacy.epsilon(1), "delta": 1e-5},
        {"epsilon": privacy.epsilon(2), "delta": 1e-5},
    ]


def test_a_round_that_is_skipped_costs_nothing_and_noise_grows_with_drop_outs(linear, clients):
    found = made(FedAvg, rounds=6, faults="random:dropout=0.8", privacy="dp:clipping=0.1").train(
        linear, clients, TrainJob(seed=1)
    )
    merged = 0
    for entry in found.history:
        merged += not entry.get("skipped")
        if merged:
            assert entry["privacy"]["epsilon"] == parse_privacy("dp").epsilon(merged)
    assert 0 < merged < 6


def test_with_secure_aggregation_the_noise_is_the_same(linear, clients):
    privacy = "dp:noise_multiplier=0.3,clipping=0.1"
    plain = made(FedAvg, privacy=privacy).train(linear, clients, TrainJob())
    secure = made(FedAvg, privacy=privacy, secure_aggregation="secaggplus").train(linear, clients, TrainJob())
    for name, value in plain.shared.items():
        torch.testing.assert_close(secure.shared[name], value, rtol=0, atol=1e-4)
    assert [entry["privacy"] for entry in plain.history] == [entry["privacy"] for entry in secure.history]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epsilon", "unknown privacy 'epsilon'; valid: none, dp"),
        ("dp:sigma=1", "privacy dp: unknown parameter 'sigma'; valid: noise_multiplier, clipping, delta"),
        ("dp:clipping=0", "privacy dp: clipping='0' should be greater than 0; valid: float > 0"),
        ("dp:delta=1", "privacy dp: delta='1' should be less than 1; valid: float > 0, < 1"),
    ],
)
def test_an_invalid_value_is_one_line(text, message):
    with pytest.raises(BadParameter) as caught:
        made(FedAvg, privacy=text)
    assert str(caught.value) == message


def test_without_an_accountant_one_line_says_what_to_install(linear, clients, monkeypatch):
    monkeypatch.setattr("rbmed_fl.privacy.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^privacy='dp' needs an accountant; install 'rbmed-fl\[privacy\]'$"):
        made(FedAvg, privacy="dp").train(linear, clients, TrainJob())
    made(FedAvg, rounds=1, privacy="dp:noise_multiplier=0").train(linear, clients, TrainJob())
