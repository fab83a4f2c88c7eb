"""Real superlinks and supernodes: separate processes that communicate over TLS on the loopback address."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rbmed_fl.engines.certificates import CA, CERTIFICATE, KEY
from rbmed_fl.engines.flower_cli import LOOPBACK
from rbmed_fl.engines.processes import FlowerProcesses
from robustbench_med import TrainJob, load_component, load_dataset
from robustbench_med.errors import HarnessError
from robustbench_med.testing.side_effects import states_differ

DATA = "brainsim:size=32,train_patients=3,calibration_patients=1,test_patients=1"
PARTITION = "iid:clients=2"  # each is a process that takes seconds to start
MODEL = "moe:width=8"
SEED = 5
ROUNDS = 2


def build():
    """A fresh classifier as the harness builds it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return load_component("model", MODEL).build(2, 1, 32)


def train(clients, engine, progress=None, checkpoints=None, **params):
    given = {"rounds": ROUNDS, "local_epochs": 1, "batch_size": 16, "engine": f"[{engine}]", **params}
    text = "fedmoe:" + ",".join(f"{key}={value}" for key, value in given.items())
    origin = {"dataset": DATA, "partition": PARTITION, "model": MODEL, "strategy": text}
    job = TrainJob(seed=SEED, origin=origin, checkpoints=checkpoints)
    if progress:
        job = TrainJob(seed=SEED, origin=origin, checkpoints=checkpoints, progress=progress)
    return load_component("strategy", text).train(build, clients, job)


class Watch:
    """Progress that calls a function after some local rounds."""

    def __init__(self, **after) -> None:
        self.after = {int(key.removeprefix("after_")): action for key, action in after.items()}
        self.local_rounds: list[str] = []

    def task(self, description, total):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def advance(self, steps=1, note=""):
        if note:
            self.local_rounds.append(note.partition(":")[0].rpartition(" ")[2])
            self.after.get(len(self.local_rounds), lambda: None)()


# --- on one machine ---


def supernode(index: int) -> int | None:
    """Process id of this test's supernode with that partition id."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and f"partition-id={index}".encode() in words:
                return int(path.name)
    return None


@pytest.mark.long
def test_a_supernode_killed_in_a_round_is_replaced_and_the_weights_are_the_same(place, assert_ended):
    clients = load_dataset(DATA, partition=PARTITION).split("train").by_site()
    expected = train(clients, "inprocess")
    killed: list[int] = []

    def kill() -> None:
        pid = supernode(1)
        assert pid is not None
        os.killpg(pid, signal.SIGKILL)
        killed.append(pid)

    def in_the_next_round() -> None:
        # The client's process has started by then, and usually still loads its libraries.
        threading.Timer(1, kill).start()

    def replaced() -> None:
        assert supernode(1) not in (None, *killed)

    watch = Watch(after_2=in_the_next_round, after_4=replaced)
    found = train(clients, "deployment:patience=3600", progress=watch)
    assert killed
    assert sorted(watch.local_rounds[:2]) == sorted(watch.local_rounds[2:]) == list(clients)
    assert not states_differ(found.shared, expected.shared)
    assert list(found.personal) == list(clients)
    assert not any(states_differ(found.personal[name], expected.personal[name]) for name in clients)
    assert [list(entry["clients"]) for entry in found.history] == [list(clients)] * ROUNDS
    assert_ended(place / "tmp")
    assert not list((place / "tmp").glob("rbmed-*"))


# --- several machines ---


class RecordingProxy(threading.Thread):
    """A TLS proxy between supernodes and superlink that records everything the supernodes send."""

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__(daemon=True)
        self.sent: list[bytes] = []
        self.connections: list[threading.Thread] = []
        self.inner = ssl.create_default_context(cafile=str(folder / CA))
        self.outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.outer.load_cert_chain(folder / CERTIFICATE, folder / KEY)
        host, port = address.split(":")
        self.target = (host, int(port))
        self.listener = socket.create_server((LOOPBACK, 0))
        self.address = f"{LOOPBACK}:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                self.connections.append(threading.Thread(target=self.serve, args=(connection,), daemon=True))
                self.connections[-1].start()

    def serve(self, connection: socket.socket) -> None:
        sent: list[bytes] = []
        with contextlib.suppress(OSError), connection:
            client = self.outer.wrap_socket(connection, server_side=True)
            with (
                client,
                socket.create_connection(self.target) as plain,
                self.inner.wrap_socket(plain, server_hostname=LOOPBACK) as server,
            ):
                self.forward(client, server, sent)
        self.sent.append(b"".join(sent))

    @staticmethod
    def forward(client: ssl.SSLSocket, server: ssl.SSLSocket, sent: list[bytes]) -> None:
        """Both directions in one thread: OpenSSL crashes if two threads use one connection at the same time."""
        other = {client: server, server: client}
        while True:
            for source in [end for end in other if end.pending()] or select.select([*other], [], [])[0]:
                source.setblocking(False)
                try:
                    part = source.recv(1 << 16)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue  # part of a message, or none for the application
                finally:
                    source.setblocking(True)
                if not part:
                    return
                if source is client:
                    sent.append(part)
                other[source].sendall(part)


NAMES = ("north", "south", "west")


@pytest.fixture(scope="module")
def hospitals(place, assert_ended):
    """A superlink, a recording proxy, and three supernodes, each with its own data set and site."""
    folder = place / "machines"
    folder.mkdir()
    sites = list(load_dataset(DATA).split("train").by_site())[: len(NAMES)]
    with FlowerProcesses(folder, {}) as processes:
        processes.proxy = RecordingProxy(folder, processes.address)
        processes.proxy.start()
        for name, site in zip(NAMES, sites, strict=True):
            processes.nodes[name] = f'client="{name}" dataset="{DATA}" site="{site}"'
            processes.supernode(name, processes.proxy.address)
        yield processes
        processes.proxy.listener.close()
    assert_ended(folder)


def at(processes, **params) -> str:
    authority, clients = processes.folder / CA, f"[{','.join(NAMES)}]"
    given = {"superlink": processes.address, "certificates": authority, "clients": clients, **params}
    return "deployment:" + ",".join(f"{key}={value}" for key, value in given.items())


def kill(processes, name: str) -> None:
    os.killpg(processes.processes[name].pid, signal.SIGKILL)
    processes.processes[name].wait()


@pytest.mark.slow
def test_hospitals_on_separate_machines(place, assert_ended, hospitals):
    everyone = load_dataset(DATA).split("train").by_site()
    clients = dict(zip(NAMES, everyone.values(), strict=False))
    public = {"public": list(everyone.values())[3]}  # what the coordinator has
    expected = train(clients, "inprocess")

    # A hospital is lost after the first round: the training ends with one line, and resumes when it is back.
    watch = Watch(after_3=lambda: kill(hospitals, "west"))
    with pytest.raises(HarnessError, match=r"^no reply from west within 120 s \(patience\); run the training again"):
        train(public, at(hospitals, patience=120), progress=watch, checkpoints=place / "server")
    hospitals.supernode("west", hospitals.proxy.address)
    found = train(public, at(hospitals), checkpoints=place / "server")

    gates = {name for name in found.shared if name.startswith(build().personal)}
    assert gates
    assert all(torch.equal(found.shared[name], expected.shared[name]) for name in found.shared.keys() - gates)
    # The state that stays at the hospitals is not available here.
    assert found.personal == {}
    assert not (place / "server/clients").exists()
    kept = set()
    for path in (place / "home/federations").glob(f"*/round-{ROUNDS}.safetensors"):
        with safe_open(path, framework="pt") as file:
            kept |= set(file.keys())
    assert len(list((place / "home/federations").iterdir())) == len(NAMES)
    assert kept == {f"kept/{name}" for name in gates}
    assert_ended(place / "tmp")
    assert not list((place / "tmp").glob("rbmed-*"))

    # What the supernodes sent: parameters, and no image, label or gate.
    for name in NAMES:
        kill(hospitals, name)  # closes connections
    for connection in hospitals.proxy.connections:
        connection.join(1800)
    traffic = b"".join(hospitals.proxy.sent)
    sent = next(name for name in found.shared if name.startswith("experts.") and found.shared[name].numel() > 16)
    assert len(traffic) > sum(value.nbytes for value in found.shared.values()) * len(NAMES)
    assert sent.encode() in traffic
    assert not any(name.encode() in traffic for name in gates)
    for split in clients.values():
        for image in split.images:
            # From the middle, where no image is constant; messages may be split anywhere, so several parts.
            raw = image[0, 8:24].contiguous().numpy().tobytes()
            pieces = [raw[start : start + 128] for start in range(0, len(raw), 128)]
            assert not any(piece in traffic for piece in pieces if len(set(piece)) > 16)
        assert split.labels.numpy().tobytes() not in traffic
    for name in NAMES:
        hospitals.supernode(name, hospitals.proxy.address)


@pytest.mark.slow
def test_a_round_with_enough_hospitals_ends_without_the_missing(hospitals):
    public = {"public": next(iter(load_dataset(DATA).split("train").by_site().values()))}
    kill(hospitals, "south")
    found = train(public, at(hospitals, patience=120, min_clients=2), rounds=1, local_epochs=2)
    (entry,) = found.history
    assert entry["missing"] == ["south"]
    assert list(entry["clients"]) == ["north", "west"]
    hospitals.supernode("south", hospitals.proxy.address)
