"""Engines by name, and the rules of a round under any engine."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from rbmed_fl import flower_grid
from rbmed_fl.checkpoint import ClientStore
from rbmed_fl.engines.config import parse_engine
from rbmed_fl.engines.inprocess import acting_as
from rbmed_fl.faults import ABSENT
from rbmed_fl.flower_grid import ClientGrid
from rbmed_fl.strategies.fedavg import FedAvg
from robustbench_med import TrainJob, load_component
from robustbench_med.errors import BadParameter, HarnessError, UsageError, WeightsError

# --- names and parameters ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ray", "unknown engine 'ray'; valid: inprocess, simulation, deployment"),
        (
            "simulation:gpu=1",
            "engine simulation: unknown parameter 'gpu', did you mean 'gpus'? valid: cpus, gpus, cores",
        ),
        ("simulation:cpus=0", "engine simulation: cpus='0' should be greater than or equal to 1; valid: int >= 1"),
        ("simulation:cpus=8,cores=4", "engine simulation: cpus=8 is more than all 4 cores"),
        ("inprocess:2", "engine inprocess: '2' is not key=value; write name:key=value,key=value"),
        (
            "deployment:superlink=host:9092",
            "engine deployment: superlink and certificates must be given together",
        ),
        (
            "deployment:clients=[a,b]",
            "engine deployment: clients can only be given together with superlink",
        ),
    ],
)
def test_an_invalid_engine_is_one_line_before_anything_is_trained(text, message):
    with pytest.raises(BadParameter) as caught:
        FedAvg.Params(engine=text)
    assert str(caught.value) == message


def test_engine_parameters_are_parsed():
    name, params = parse_engine(
        "deployment:superlink=fl.example.org:9092,certificates=ca.pem,clients=[b,a],min_clients=1"
    )
    assert name == "deployment"
    assert params.client_names({"x": None}) == ("b", "a")
    assert params.remote
    assert params.may_miss_rounds(2)
    assert not params.may_miss_rounds(1)
    assert parse_engine("inprocess")[1].client_names({"x": None}) == ("x",)


def test_without_ray_one_line_says_what_to_install(monkeypatch, linear, clients):
    find = importlib.util.find_spec
    monkeypatch.setattr("rbmed_fl.engines.simulation.find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(UsageError, match=r"^engine 'simulation' needs Ray; install 'rbmed-fl\[simulation\]'$"):
        FedAvg(FedAvg.Params(rounds=1, engine="simulation")).train(linear, clients, TrainJob())


def test_deployment_without_references_in_text_is_one_line(linear, clients):
    with pytest.raises(UsageError, match=r"TrainJob\.origin lacks dataset, model, strategy") as caught:
        FedAvg(FedAvg.Params(rounds=1, engine="deployment")).train(linear, clients, TrainJob())
    assert "\n" not in str(caught.value)


def test_deployment_refuses_a_strategy_that_regroups_clients(linear, clients):
    pooled = load_component("strategy", "centralized:rounds=1,engine=deployment")
    with pytest.raises(UsageError, match="Centralized regroups them"):
        pooled.train(linear, clients, TrainJob())


# --- a round, under any engine ---


class Nodes(Grid):
    """Nodes that connect and fail by a script: ``script(node, nth)`` is a client, an error, or None (no reply)."""

    def __init__(self, script, nodes):
        self.script, self.nodes, self.sent, self.replies = script, nodes, [], {}

    def get_node_ids(self):
        return self.nodes(len(self.sent))

    def push_messages(self, messages):
        for message in messages:
            node = message.metadata.dst_node_id
            self.sent.append(node)
            name = f"message-{len(self.sent)}"
            message.metadata.__dict__["_message_id"] = name
            outcome = self.script(node, len(self.sent))
            if isinstance(outcome, Error):
                self.replies[name] = Message(outcome, reply_to=message)
            elif outcome is not None:
                content = RecordDict({"metrics": MetricRecord({"partition-id": outcome})})
                self.replies[name] = Message(content, reply_to=message)
            yield name

    def pull_messages(self, message_ids):
        return [self.replies.pop(name) for name in list(message_ids) if name in self.replies]

    def set_run(self, run): ...

    run = None

    def create_message(self, *args, **kwargs): ...

    def send_and_receive(self, messages, *, timeout=None): ...


class Clock:
    """Stands in for `time`: only `sleep` lets time pass."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(flower_grid, "time", clock := Clock())
    return clock


@pytest.fixture
def run_round(clock):
    """One round over three clients; returns the clients of the replies, as returned and as they arrived, and nodes."""

    def run_round(script, nodes=lambda sent: [11, 12, 13], **options):
        arrived = []
        with acting_as(1):
            nodes_grid = Nodes(script, nodes)
            grid = ClientGrid(
                nodes_grid,
                ("a", "b", "c"),
                lambda reply: arrived.append(reply["metrics"]["partition-id"]),
                lambda index, reason: arrived.append(f"{index} {reason}"),
                **options,
            )
            replies = grid.send_and_receive([Message(RecordDict(), node, "train") for node in grid.get_node_ids()])
            return [flower_grid.partition_id(reply) for reply in replies], arrived, nodes_grid.sent

    return run_round


def test_replies_come_back_in_the_order_of_clients(run_round):
    order, arrived, sent = run_round(lambda node, nth: 13 - node)
    assert order == [0, 1, 2]
    assert arrived == [2, 1, 0]
    assert sent == [11, 12, 13]


def test_a_node_that_replaces_a_lost_one_gets_the_message_too(run_round):
    gone = Error(ErrorCode.NODE_UNAVAILABLE, "gone")
    order, _, sent = run_round(
        lambda node, nth: {11: 0, 12: gone, 13: 2, 14: 1}[node],
        lambda sent: [11, 12, 13] if sent < 3 else [11, 12, 13, 14],
    )
    assert order == [0, 1, 2]
    assert sent == [11, 12, 13, 14]


def test_two_nodes_of_one_client_count_once(run_round):
    order, arrived, _ = run_round(lambda node, nth: {11: 0, 12: 0, 13: 1, 14: 2}[node], lambda sent: [11, 12, 13, 14])
    assert order == arrived == [0, 1, 2]


@pytest.mark.parametrize("code", [ErrorCode.CLIENT_APP_CRASHED, ErrorCode.REPLY_MESSAGE_UNAVAILABLE])
def test_a_node_whose_client_or_reply_was_lost_gets_the_message_again(code, run_round):
    crashed = Error(code, "killed")
    order, _, sent = run_round(lambda node, nth: crashed if nth == 2 else node - 11)
    assert order == [0, 1, 2]
    assert sent == [11, 12, 13, 12]


def test_a_client_that_failed_ends_the_round(run_round):
    with pytest.raises(HarnessError, match=r"^a client of the federation failed: b: its scanner is off$"):
        run_round(lambda node, nth: Error(2, "b: its\nscanner is off") if node == 12 else node - 11)


def test_a_client_that_says_that_it_is_absent_is_not_waited_for(run_round):
    away = Error(ABSENT, '[1, "dropout"]')
    order, arrived, _ = run_round(lambda node, nth: away if node == 12 else node - 11)
    assert order == [0, 2]
    assert arrived == [0, "1 dropped out", 2]


def test_without_enough_replies_the_missing_are_named(run_round):
    with pytest.raises(HarnessError, match=r"^no reply from b, c within 100 s \(patience\); run the training again"):
        run_round(lambda node, nth: 0 if node == 11 else None, patience=100, min_clients=2)


def test_with_enough_replies_the_round_ends_after_patience(run_round, clock):
    order, _, _ = run_round(lambda node, nth: None if node == 12 else node - 11, patience=100, min_clients=2)
    assert order == [0, 2]
    assert clock.now > 100


def test_a_client_that_missed_rounds_resumes_from_its_last(tmp_path):
    state = {"w": torch.ones(1)}
    for may_miss_rounds in (True, False):
        store = ClientStore(tmp_path / str(may_miss_rounds), {"federation": "x"}, may_miss_rounds)
        store.save(2, state)
        if may_miss_rounds:
            assert store.load(5) == state
            assert store.load(1) == {}
        else:
            with pytest.raises(WeightsError, match="state after round 5 is missing"):
                store.load(5)
        store.save(6, state)
        store.save(7, state)
        assert {path.name for path in store.folder.iterdir()} == {"round-6.safetensors", "round-7.safetensors"}
