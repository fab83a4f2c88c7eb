"""The simulation on Ray: the same bits as in one process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from robustbench_med import Split, TrainJob, load_component
from robustbench_med.errors import HarnessError
from robustbench_med.testing import Stop, StopAfter
from robustbench_med.testing.side_effects import states_differ


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
    deadline = time.monotonic() + 1800
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


def same_result(a, b) -> bool:
    return (
        not states_differ(a.shared, b.shared)
        and a.personal.keys() == b.personal.keys()
        and not any(states_differ(a.personal[key], b.personal[key]) for key in a.personal)
    )


def federation(strategy: str, engine: str, **params):
    given = {"rounds": 2, "local_epochs": 1, "batch_size": 8, **params}
    text = ",".join(f"{key}={value}" for key, value in given.items())
    return load_component("strategy", f"{strategy}:{text},engine=[{engine}]")


@pytest.mark.parametrize(
    "strategy",
    [pytest.param("fedmoe", marks=pytest.mark.long), pytest.param("fedavg", marks=pytest.mark.slow)],
)
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_faults_privacy_and_secure_aggregation_are_the_same_in_the_simulation(mixture, hospitals, alone):
    options = {
        "rounds": 3,
        "faults": "[random:dropout=0.2,late=0.1,nan=0.1]",
        "privacy": "[dp:noise_multiplier=0.1,clipping=0.5]",
        "secure_aggregation": "secaggplus",
    }
    for left_out in ((), ("secure_aggregation",)):
        given = {name: value for name, value in options.items() if name not in left_out}
        expected = federation("fedavg", "inprocess", **given).train(mixture, hospitals, TrainJob(seed=14))
        found = federation("fedavg", "simulation:cores=2", **given).train(mixture, hospitals, TrainJob(seed=14))
        assert same_result(found, expected)
        assert [entry.get("absent") for entry in found.history] == [entry.get("absent") for entry in expected.history]


def test_ray_leaves_kill_to_the_command(monkeypatch):
    from rbmed_fl.engines import simulation

    fake = SimpleNamespace(
        init=lambda **_: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        shutdown=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    before = signal.getsignal(signal.SIGTERM)
    with simulation._ray(1, gpu=False):
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before
