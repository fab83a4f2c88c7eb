"""Unreliable clients: drop-outs, late answers, and numbers that the server refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from rbmed_fl.engines.inprocess import acting_as
from rbmed_fl.faults import parse_faults
from rbmed_fl.screening import Screen
from rbmed_fl.strategies.adaptive import FedAdam
from rbmed_fl.strategies.coordinatewise import FedMedian
from rbmed_fl.strategies.ditto import Ditto
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.krum import MultiKrum
from robustbench_med import TrainJob
from robustbench_med.errors import BadParameter, HarnessError
from robustbench_med.testing.side_effects import states_differ

SHORT = {"rounds": 3, "local_epochs": 1, "batch_size": 8}


def made(strategy, **params):
    return strategy(strategy.Params(**(SHORT | params)))


class Notes:
    """Progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps = 0

    def task(self, description, total):
        self.total = total
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def advance(self, steps=1, note=""):
        self.steps += steps
        self.notes += [note] if note else []


# --- what happens to whom ---


def test_a_fault_depends_on_seed_client_and_round_alone():
    faults = parse_faults("random:dropout=1/4,late=0.25,nan=0.125,inf=0.125,huge=0.125")
    drawn = [faults.draw(7, f"c{client}", number) for client in range(40) for number in range(1, 51)]
    shares = {fault: drawn.count(fault) / 2000 for fault in ("dropout", "late", "nan", "inf", "huge", None)}
    assert shares == pytest.approx(
        {"dropout": 0.25, "late": 0.25, "nan": 0.125, "inf": 0.125, "huge": 0.125, None: 0.125}, abs=0.03
    )
    assert drawn[:50] == [faults.draw(7, "c0", number) for number in range(1, 51)]
    assert drawn[:50] != [faults.draw(8, "c0", number) for number in range(1, 51)]
    only = parse_faults("random:dropout=1,names=[a,b]")
    assert [only.draw(7, name, 1) for name in "abc"] == ["dropout", "dropout", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("always", "unknown faults 'always'; valid: none, random"),
        (
            "random",
            "faults random: the probabilities of dropout, late, nan, inf, huge add up to 0; "
            "valid: more than 0, up to 1",
        ),
        (
            "random:dropout=0.7,late=0.5",
            "faults random: the probabilities of dropout, late, nan, inf, huge add up to 1.2; "
            "valid: more than 0, up to 1",
        ),
        ("random:nan=2", "faults random: nan='2' should be less than or equal to 1"),
        ("random:lost=1", "faults random: unknown parameter 'lost'; valid: dropout, late, nan, inf, huge, "),
        ("random:0.1,names=[east]", "faults='random:0.1,names=[east]': no client is named 'east'; valid: north, south"),
    ],
)
def test_an_invalid_value_is_one_line_before_anything_is_trained(text, message, linear, clients):
    with pytest.raises(BadParameter) as caught:
        made(FedAvg, faults=text).train(linear, clients, TrainJob())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# --- a federation goes on with the rest ---


def test_a_client_that_drops_out_is_left_out_of_the_mean(linear, clients):
    notes = Notes()
    found = made(FedAvg, faults="random:dropout=1,names=[west]").train(linear, clients, TrainJob(progress=notes))
    rest = {name: clients[name] for name in ("north", "south")}
    assert not states_differ(found.shared, made(FedAvg).train(linear, rest, TrainJob()).shared)
    for entry in found.history:
        assert list(entry["clients"]) == ["north", "south"]
        assert entry["missing"] == ["west"]
        assert entry["absent"] == {"west": "dropped out"}
    assert notes.notes[2] == "round 1 of 3, west: dropped out"
    assert notes.steps == notes.total == 9


def test_a_late_answer_is_lost_and_the_clients_own_model_goes_on(linear, clients):
    plain = made(Ditto, rounds=1).train(linear, clients, TrainJob())
    late = made(Ditto, rounds=1, faults="random:late=1,names=[west]").train(linear, clients, TrainJob())
    assert late.history[0]["absent"] == {"west": "answered after the round was closed"}
    assert not states_differ(late.personal["west"], plain.personal["west"])
    assert states_differ(late.shared, plain.shared)
    out = made(Ditto, rounds=1, faults="random:dropout=1,names=[west]").train(linear, clients, TrainJob())
    assert "west" not in out.personal
    assert not states_differ(late.shared, out.shared)


@pytest.mark.parametrize("strategy", [FedAvg, FedAdam, FedMedian, Ditto])
def test_equal_seeds_give_equal_bits_also_after_an_interruption(strategy, mixture, clients, tmp_path):
    class Stop(Notes):
        def advance(self, steps=1, note=""):
            super().advance(steps, note)
            if len(self.notes) == 7:
                raise KeyboardInterrupt

    faulty = made(strategy, rounds=4, faults="random:dropout=0.25,late=0.1,nan=0.15,inf=0.1,huge=0.1")
    first = faulty.train(mixture, clients, TrainJob(seed=14))
    with pytest.raises(KeyboardInterrupt):
        faulty.train(mixture, clients, TrainJob(seed=14, progress=Stop(), checkpoints=tmp_path))
    again = faulty.train(mixture, clients, TrainJob(seed=14, checkpoints=tmp_path))
    assert not states_differ(first.shared, again.shared)
    assert not any(states_differ(first.personal[name], again.personal[name]) for name in first.personal)
    assert all(torch.isfinite(value).all() for value in first.shared.values())
    plain = [{key: value for key, value in entry.items() if key in ("absent", "refused")} for entry in first.history]
    assert plain == [{key: entry[key] for key in ("absent", "refused") if key in entry} for entry in again.history]
    assert {key for entry in plain for key in entry} == {"absent", "refused"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("nan=1", "its update is not finite"),
        ("inf=1", "its update is not finite"),
        ("huge=1", "times as long as the median (update_limit=1000)"),
    ],
)
@pytest.mark.parametrize("strategy", [FedAvg, FedAdam, FedMedian])
def test_what_would_spoil_the_model_is_refused_by_name(strategy, fault, reason, mixture, clients):
    notes = Notes()
    faults = f"random:{fault},names=[south]"
    found = made(strategy, rounds=2, faults=faults).train(mixture, clients, TrainJob(progress=notes))
    rest = {name: clients[name] for name in ("north", "west")}
    assert not states_differ(found.shared, made(strategy, rounds=2).train(mixture, rest, TrainJob()).shared)
    for entry in found.history:
        assert list(entry["refused"]) == ["south"]
        assert entry["refused"]["south"].endswith(reason)
        assert list(entry["clients"]) == ["north", "south", "west"]  # it did train and answer
        assert "missing" not in entry
    assert next(note for note in notes.notes if "refused" in note).startswith("round 1 of 2, south: refused: its up")
    assert notes.steps == notes.total
    json.dumps(found.history, allow_nan=False)


def test_a_limit_of_0_merges_updates_of_any_length(linear, clients):
    faults = "random:huge=1,factor=2000,names=[south]"
    found = made(FedAvg, rounds=1, faults=faults, update_limit=0).train(linear, clients, TrainJob())
    assert "refused" not in found.history[0]
    assert max(float(value.abs().max()) for value in found.shared.values()) > 1


def test_a_round_without_any_client_leaves_the_model_as_it_was(linear, clients):
    faults = "random:dropout=0.8"
    found = made(FedAvg, rounds=6, faults=faults).train(linear, clients, TrainJob(seed=1))
    skipped = [entry["round"] for entry in found.history if entry.get("skipped")]
    assert 0 < len(skipped) < 6
    assert all(entry["missing"] == list(clients) for entry in found.history if entry.get("skipped"))


def test_when_all_clients_fail_it_is_one_line(linear, clients):
    with pytest.raises(HarnessError) as caught:
        made(FedAvg, faults="random:dropout=1").train(linear, clients, TrainJob())
    assert str(caught.value) == "every client was absent in every round (3); nothing was trained"
    with pytest.raises(HarnessError) as caught:
        made(FedAvg, faults="random:nan=1").train(linear, clients, TrainJob())
    reason = "its update is not finite"
    assert str(caught.value) == (
        f"no reply of round 1 can be merged (north: {reason}; south: {reason}; west: {reason})"
    )


def test_too_few_replies_for_a_robust_rule_is_one_line(linear, clients):
    with pytest.raises(
        HarnessError, match=r"^strategy multikrum with byzantine=0 needs at least 3 clients .* there are 2"
    ):
        made(MultiKrum, faults="random:dropout=1,names=[west]").train(linear, clients, TrainJob())


# --- the rule by hand ---


class Taken:
    """A strategy that keeps what it is given."""

    def configure_train(self, server_round, arrays, config, grid):
        return []

    def aggregate_train(self, server_round, replies):
        self.replies = replies
        return ArrayRecord(), MetricRecord()


def screen(*weights, limit=1000.0):
    """The partition ids that are merged, and what is refused, of replies with these weights to a model of zeros."""
    inner = Taken()
    screened = Screen(inner, "abcdefgh", limit)
    sent = ArrayRecord({"w": Array(np.zeros(2, np.float32))})
    with acting_as(1):
        screened.configure_train(1, sent, ConfigRecord({"rounds-before": 0}), None)
        replies = []
        for index, value in enumerate(weights):
            metrics = MetricRecord({"partition-id": index, "num-examples": 1})
            arrays = ArrayRecord({"w": Array(np.asarray(value, np.float32))})
            replies.append(Message(RecordDict({"arrays": arrays, "metrics": metrics}), 1, "train"))
        screened.aggregate_train(1, replies)
    return [reply.content["metrics"]["partition-id"] for reply in inner.replies], screened.refused


def test_an_update_is_huge_above_a_multiple_of_the_lower_median():
    assert screen([1, 0], [0, 999], [2, 0], [1, 1])[1] == {}
    merged, refused = screen([3, 4], [0, 5002], limit=1000)  # of two, the median is the shorter one
    assert merged == [0]
    assert refused == {1: "its update is 1e+03 times as long as the median (update_limit=1000)"}
    assert screen([3e38, 3e38], [1, 0], [1, 0])[0] == [1, 2]
    assert screen([0, 0], [0, 0], [5, 0])[1] == {}  # there is no usual length
    assert screen([1, 0], [50, 0], limit=20)[0] == [0]
    assert screen([1, 0], [50, 0], limit=0)[0] == [0, 1]


def test_entries_of_another_model_are_refused():
    merged, refused = screen([1, 0], [1, 0, 0], [np.nan, 1])
    assert merged == [0]
    assert refused == {1: "its entries are not those of the model", 2: "its update is not finite"}
