"""Engines by name, the rules of a round, and the simulation on Ray: the same bits as in one process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
import torch
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from rbmed_fl import flower_grid
from rbmed_fl.client_state import FolderStore
from rbmed_fl.engines.config import parse_engine
from rbmed_fl.engines.inprocess import acting_as
from rbmed_fl.flower_grid import ClientGrid
from rbmed_fl.strategies.fedavg import FedAvg
from robustbench_med import Split, TrainJob, load_component
from robustbench_med.errors import BadParameter, HarnessError, UsageError, WeightsError
from robustbench_med.testing import Stop, StopAfter

# --- names and parameters ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ray", "engine='ray': unknown 'ray'; valid: inprocess, simulation, deployment"),
        ("simulation:gpu=1", "engine='simulation:gpu=1': unknown parameter 'gpu'; valid: cpus, gpus, cores"),
        ("simulation:cpus=0", "engine='simulation:cpus=0': cpus='0' should be greater than or equal to 1"),
        ("simulation:cpus=8,cores=4", "engine='simulation:cpus=8,cores=4': cpus=8 is more than all 4 cores"),
        ("inprocess:2", "engine='inprocess:2': unknown parameter '2'; there are none"),
        (
            "deployment:superlink=host:9092",
            "engine='deployment:superlink=host:9092': superlink and certificates must be given together",
        ),
        (
            "deployment:clients=[a,b]",
            "engine='deployment:clients=[a,b]': clients can only be given together with superlink",
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
                nodes_grid, ("a", "b", "c"), lambda reply: arrived.append(reply["metrics"]["partition-id"]), **options
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
        store = FolderStore(tmp_path / str(may_miss_rounds), {"federation": "x"}, may_miss_rounds)
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


# --- Ray ---


def make_client(name: str, n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = torch.rand(n, 1, 32, 32, generator=generator) * 0.5 + 0.4 * labels[:, None, None, None]
    return Split(images, labels, tuple(f"{name}-{i}" for i in range(n)), (name,) * n)


@pytest.fixture
def hospitals() -> dict[str, Split]:
    return {name: make_client(name, 10 + 7 * i, i) for i, name in enumerate(("north", "south", "west"))}


@pytest.fixture
def mixture():
    # Of an installed package: Ray's processes import it.
    model = load_component("model", "moe:width=8")
    return lambda: model.build(2, 1, 32)


@pytest.fixture
def alone(monkeypatch):
    """One thread, as every client of a simulation has; afterwards no file and no process of Ray is left."""
    pytest.importorskip("ray", reason="needs the extra rbmed-fl[simulation]")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tempfile.mkdtemp(prefix="t")  # a short path: Ray puts sockets below it
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield Path(folder)
    torch.set_num_threads(threads)
    deadline = time.monotonic() + 120
    while (left := [*Path(folder).iterdir(), *processes(folder)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    shutil.rmtree(folder)
    assert not left


def processes(text: str) -> list[str]:
    """Command lines of running processes that mention ``text``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def same_result(a, b) -> bool:
    return (
        same(a.shared, b.shared)
        and a.personal.keys() == b.personal.keys()
        and all(same(a.personal[key], b.personal[key]) for key in a.personal)
    )


def federation(strategy: str, engine: str, **params):
    given = {"rounds": 2, "local_epochs": 1, "batch_size": 8, **params}
    text = ",".join(f"{key}={value}" for key, value in given.items())
    return load_component("strategy", f"{strategy}:{text},engine=[{engine}]")


@pytest.mark.parametrize("strategy", ["fedmoe", pytest.param("fedavg", marks=pytest.mark.slow)])
def test_simulation_gives_the_same_bits_and_leaves_nothing(strategy, mixture, hospitals, alone, capfd):
    job, environment = TrainJob(seed=1), dict(os.environ)
    expected = federation(strategy, "inprocess").train(mixture, hospitals, job)
    found = federation(strategy, "simulation:cores=2").train(mixture, hospitals, job)
    assert same_result(found, expected)
    assert list(found.personal) == (["north", "south", "west"] if strategy == "fedmoe" else [])
    assert [list(entry["clients"]) for entry in found.history] == [["north", "south", "west"]] * 2
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == environment


class CtrlC(StopAfter):
    """As the user interrupts: not an error of the training."""

    def advance(self, steps=1, note=""):
        try:
            super().advance(steps, note)
        except Stop:
            raise KeyboardInterrupt from None


def test_interrupted_simulation_resumes_under_another_engine(mixture, hospitals, alone, tmp_path):
    undisturbed = federation("fedmoe", "inprocess").train(mixture, hospitals, TrainJob())
    with pytest.raises(KeyboardInterrupt):
        federation("fedmoe", "simulation:cores=1").train(
            mixture, hospitals, TrainJob(progress=CtrlC(4), checkpoints=tmp_path)
        )
    resumed = federation("fedmoe", "inprocess").train(mixture, hospitals, TrainJob(checkpoints=tmp_path))
    assert same_result(resumed, undisturbed)


@pytest.mark.slow
def test_a_client_that_fails_in_the_simulation_is_one_line(mixture, hospitals, alone):
    with pytest.raises(HarnessError, match=r"failed: \w+: training of client '\w+' diverged in round") as caught:
        federation("fedmoe", "simulation:cores=1", lr=1e30, rounds=3).train(mixture, hospitals, TrainJob())
    assert "\n" not in str(caught.value)


def test_ray_that_cannot_start_is_one_line(mixture, hospitals, alone, monkeypatch):
    deep = alone / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(HarnessError, match=r"^Ray cannot start: .*AF_UNIX") as caught:
        federation("fedmoe", "simulation").train(mixture, hospitals, TrainJob())
    assert "\n" not in str(caught.value)
    deep.rmdir()
