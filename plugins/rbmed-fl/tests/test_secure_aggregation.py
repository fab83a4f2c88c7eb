"""Secure aggregation: the same model as without it, drop-outs, and what the server gets to see."""

from __future__ import annotations

import pytest
import torch
from flwr.clientapp import ClientApp

from rbmed_fl.strategies.adaptive import FedAdam
from rbmed_fl.strategies.bounds import Centralized, LocalOnly
from rbmed_fl.strategies.coordinatewise import FedMedian
from rbmed_fl.strategies.ditto import Ditto
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedavgm import FedAvgM
from rbmed_fl.strategies.fedprox import FedProx
from rbmed_fl.strategies.krum import Bulyan
from robustbench_med import TrainJob
from robustbench_med.errors import BadParameter, HarnessError, UsageError
from robustbench_med.testing.side_effects import states_differ

SHORT = {"rounds": 2, "local_epochs": 1, "batch_size": 8}


def made(strategy, **params):
    return strategy(strategy.Params(**(SHORT | params)))


def near(a, b, limit) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=limit, msg=name)


@pytest.mark.parametrize("strategy", [FedAvg, FedProx, FedAvgM, Ditto])
def test_the_mean_is_that_of_the_plain_strategy_within_the_rounding(strategy, mixture, clients):
    plain = made(strategy, rounds=1).train(mixture, clients, TrainJob())
    secure = made(strategy, rounds=1, secure_aggregation="secaggplus").train(mixture, clients, TrainJob())
    # A step of 2 * 8 / 2**24 on each client's share (of the largest), and rounding of float32.
    near(secure.shared, plain.shared, 5e-6)
    assert states_differ(secure.shared, plain.shared)
    assert secure.history[0]["clients"].keys() == plain.history[0]["clients"].keys()
    for name, figures in secure.history[0]["clients"].items():
        before = plain.history[0]["clients"][name]
        assert {key: figures[key] for key in ("loss", "accuracy", "num-examples")} == {
            key: before[key] for key in ("loss", "accuracy", "num-examples")
        }
        assert figures["cut-off"] == 0
        assert figures["bytes-sent"] == 8 * sum(v.numel() for v in plain.shared.values() if v.is_floating_point())


def test_a_step_of_the_server_is_on_the_secure_mean(mixture, clients):
    plain = made(FedAdam, rounds=1).train(mixture, clients, TrainJob())
    secure = made(FedAdam, rounds=1, secure_aggregation="secaggplus").train(mixture, clients, TrainJob())
    near(secure.shared, plain.shared, 1e-3)


def test_equal_seeds_give_equal_bits_although_masks_differ(mixture, clients, tmp_path):
    strategy = made(FedAvg, secure_aggregation="secaggplus")
    first = strategy.train(mixture, clients, TrainJob(seed=1))
    assert not states_differ(first.shared, strategy.train(mixture, clients, TrainJob(seed=1)).shared)


def test_no_message_holds_an_update(linear, clients, monkeypatch):
    """What the server receives of a client has no array, and its masked numbers are spread over the whole range."""
    replies = []
    call = ClientApp.__call__

    def spy(app, message, context):
        reply = call(app, message, context)
        replies.append(reply.content)
        return reply

    monkeypatch.setattr(ClientApp, "__call__", spy)
    made(FedAvg, rounds=1, secure_aggregation="secaggplus").train(linear, clients, TrainJob())
    assert len(replies) == 4 * len(clients)
    assert not any(len(record) for reply in replies for record in reply.array_records.values())
    import numpy as np
    from flwr.common import bytes_to_ndarray

    masked = [
        bytes_to_ndarray(part)
        for reply in replies
        for part in reply.config_records["secaggplus_configs"].get("masked_params", ())
    ]
    assert len(masked) == 3 * len(clients)  # the weight, and two arrays of a linear model
    large = np.concatenate([part.ravel() for part in masked if part.size > 10])
    assert abs(large.mean() / 2**32 - 0.5) < 0.05  # unmasked, all would lie near half of 2**24


def test_drop_outs_up_to_the_threshold_are_survived(linear, clients):
    faults = "random:dropout=1,names=[west]"
    secure = made(FedAvg, secure_aggregation="secaggplus", faults=faults).train(linear, clients, TrainJob())
    plain = made(FedAvg, faults=faults).train(linear, clients, TrainJob())
    near(secure.shared, plain.shared, 5e-6)
    assert [entry["absent"] for entry in secure.history] == [{"west": "dropped out"}] * 2


def test_with_more_drop_outs_the_training_ends_with_one_line(linear, clients):
    for options, faults, there in [
        ("secaggplus:threshold=0.9", "random:dropout=1,names=[west]", 2),
        ("secaggplus", "random:dropout=1,names=[west,north]", 1),
        ("secaggplus", "random:dropout=1", 0),
    ]:
        with pytest.raises(HarnessError) as caught:
            made(FedAvg, secure_aggregation=options, faults=faults).train(linear, clients, TrainJob())
        threshold, needed = (0.9, 3) if "0.9" in options else (0.6, 2)
        assert str(caught.value) == (
            f"secure aggregation needs {needed} of the 3 clients to the end of round 1 (threshold={threshold}), "
            f"and {there} were there"
        )


def test_the_client_checks_its_own_update(linear, clients):
    faults = "random:nan=1,names=[west]"
    found = made(FedAvg, secure_aggregation="secaggplus", faults=faults).train(linear, clients, TrainJob())
    reason = "its update is not finite, so that the client did not send it"
    assert [entry["absent"] for entry in found.history] == [{"west": reason}] * 2
    assert all(torch.isfinite(value).all() for value in found.shared.values())


def test_what_is_beyond_the_range_is_cut_off_and_counted(linear, clients):
    faults = "random:huge=1,names=[west]"
    secure = made(FedAvg, rounds=1, secure_aggregation="secaggplus:clipping=0.5", faults=faults)
    found = secure.train(linear, clients, TrainJob())
    figures = found.history[0]["clients"]
    assert figures["west"]["cut-off"] > 100
    assert figures["north"]["cut-off"] == 0
    assert max(float(value.abs().max()) for value in found.shared.values()) < 2


@pytest.mark.parametrize("strategy", [FedMedian, Bulyan, LocalOnly, Centralized])
@pytest.mark.parametrize("option", [{"secure_aggregation": "secaggplus"}, {"privacy": "dp"}])
def test_strategies_that_do_not_average_refuse_in_one_line(strategy, option):
    with pytest.raises(UsageError) as caught:
        made(strategy, **option)
    assert str(caught.value) == (
        f"strategy {strategy.__name__} does not merge the mean of the clients' updates; {next(iter(option))} needs a "
        f"strategy that does, such as fedavg"
    )


def test_what_cannot_be_is_one_line(linear, clients):
    two = {name: clients[name] for name in ("north", "south")}
    with pytest.raises(UsageError, match=r"^secure_aggregation needs 3 to 255 clients, and there are 2; from the mean"):
        made(FedAvg, secure_aggregation="secaggplus").train(linear, two, TrainJob())
    with pytest.raises(UsageError, match=r"^secure_aggregation works with the engines inprocess and simulation"):
        made(FedAvg, secure_aggregation="secaggplus", engine="deployment")
    with pytest.raises(
        BadParameter, match=r"unknown secure_aggregation 'secagg', did you mean 'secaggplus'\? valid: none, secaggplus"
    ):
        made(FedAvg, secure_aggregation="secagg")
    with pytest.raises(BadParameter, match=r"threshold='0.5' should be greater than 0.5"):
        made(FedAvg, secure_aggregation="secaggplus:threshold=0.5")
