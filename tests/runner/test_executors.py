"""Cells in processes of their own: plugins that hang, die or leak cost their cell and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.grids import BASE, lines, run
from helpers.sockets import LOOPBACK, listening

from robustbench_med.errors import BadParameter, UsageError
from robustbench_med.grid.config import build
from robustbench_med.plugins.registry import Registry
from robustbench_med.runner.executors import pool, process
from robustbench_med.runner.runner import Runner


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("condor", "unknown --executor 'condor'; valid: local, ray, slurm"),
        (
            "ray:wokers=2",
            "--executor ray: unknown parameter 'wokers'",
        ),
        ("ray:workers=0", "workers='0'.*greater than or equal to 1"),
        ("local:workers=0", "workers='0'.*greater than or equal to 1"),
        ({"name": "local", "process": "perhaps"}, "process='perhaps'"),
    ],
)
def test_a_wrong_executor_is_one_line(toys: Registry, text: object, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        Runner(build({**BASE, "executor": text}), toys)


def test_ray_has_to_be_installed_and_chooses_gpus_itself(toys: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    import robustbench_med.runner.executors.ray as on_ray

    monkeypatch.setattr(on_ray, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"install 'robustbench-med\[ray\]'"):
        Runner(build({**BASE, "executor": "ray"}), toys)


@pytest.mark.long
def test_a_process_gives_the_same_records(toys: Registry, tmp_path: Path) -> None:
    run(toys, tmp_path / "a", access=["oblivious", "transfer", "full"])
    run(toys, tmp_path / "b", access=["oblivious", "transfer", "full"], executor="local:process=true")
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_several_processes_give_the_same_records_and_are_replaced(toys: Registry, tmp_path: Path) -> None:
    dies = f"faulty:how=die,after=4,times=1,file={tmp_path / 'calls'}"
    asked = {"attack": ["shift", dies], "seed": [0, 1], "diagnostics": "off"}
    records = run(toys, tmp_path / "a", **asked, executor="local:workers=2")
    assert [record.status for record in records] == ["ok"] * 4
    run(toys, tmp_path / "b", **asked)
    assert sorted(lines(tmp_path / "a")) == sorted(lines(tmp_path / "b"))


def test_workers_start_while_cells_are_prepared_and_end_with_the_run(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build({**BASE, "seed": [0, 1, 2], "executor": "local:workers=2,cpus=1", "out": tmp_path / "out"})
    runner, started = Runner(config, toys), list[int]()
    workers = runner.executor.pool.processes  # type: ignore[attr-defined]

    def refused(cell: object) -> None:
        started.append(len(workers))
        raise UsageError("not this one")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "prepare", refused)
        with pytest.raises(UsageError, match="not this one"):
            list(runner.run())
    assert started == [2]
    assert not workers
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "records.jsonl").touch()  # there, all may be done, which needs no worker
    monkeypatch.setattr(runner, "prepare", refused)
    with pytest.raises(UsageError, match="not this one"):
        list(runner.run())
    assert started == [2, 0]


def clock(monkeypatch: pytest.MonkeyPatch, over: Callable[[], bool]) -> None:
    """The clock of time limits stands still, until ``over`` is true; then it jumps beyond every limit so far."""
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: 1e6 * over(), sleep=time.sleep))


@pytest.mark.long
def test_a_cell_that_hangs_is_stopped_and_the_other_cells_run(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, kept = f"faulty:how=hang,after=4,file={tmp_path / 'calls'}", tmp_path / "out" / "partial"
    clock(monkeypatch, lambda: len(list(kept.glob("*/0*"))) >= 4)
    records = run(toys, tmp_path / "out", attack=[hangs, "shift"], time_limit=1)
    assert [r.status for r in records] == ["failed", "ok"]
    assert records[0].reason == "TimeLimit: stopped after 1 s (--time-limit)"
    # What it had finished is kept for the next attempt: a time limit says nothing about the chunks that were finished.
    assert len(list(kept.glob("*/0*"))) == 4


@pytest.mark.long
def test_a_process_that_dies_is_replaced_and_its_cell_run_again(toys: Registry, tmp_path: Path) -> None:
    dies = f"faulty:how=die,after=4,times=1,file={tmp_path / 'calls'}"
    records = run(toys, tmp_path / "out", attack=[dies, "shift"], executor="local:process=true", diagnostics="off")
    assert [r.status for r in records] == ["ok", "ok"]
    assert len((tmp_path / "calls").read_text()) == 8 + 1  # it went on at the chunk that it died of


@pytest.mark.slow
def test_a_cell_that_kills_every_process_fails(toys: Registry, tmp_path: Path) -> None:
    records = run(toys, tmp_path / "out", attack=["faulty:how=die", "shift"], executor="local:process=true")
    assert [r.status for r in records] == ["failed", "ok"]
    assert records[0].reason == f"WorkerLost: the process that ran the cell died {pool.ATTEMPTS} times (exit code -9)"


@pytest.mark.slow
def test_a_process_that_leaks_is_replaced(toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GROWTH", 300 * 2**20)
    started: list[int | None] = []
    send = process._Processes.send

    def counted(self: process._Processes, worker: int, job: object) -> None:
        send(self, worker, job)  # type: ignore[arg-type]
        started.append(self.processes[worker].pid)

    monkeypatch.setattr(process._Processes, "send", counted)
    asked = {"seed": list(range(4)), "executor": "local:process=true", "diagnostics": "off"}
    records = run(toys, tmp_path / "out", attack="faulty:how=leak", **asked)  # 200 MiB a cell
    assert [r.status for r in records] == ["ok"] * 4
    assert started[0] == started[1] == started[2] != started[3]


@pytest.mark.slow
def test_ctrl_c_ends_the_process(toys: Registry, tmp_path: Path) -> None:
    config = build({**BASE, "seed": [0, 1, 2], "executor": "local:process=true", "out": tmp_path / "out"})
    runner = Runner(config, toys)
    records = runner.run()
    next(records)
    with pytest.raises(KeyboardInterrupt):
        records.throw(KeyboardInterrupt)
    assert len(lines(tmp_path / "out")) == 1
    again = [record.status for record in Runner(config, toys).run()]
    assert again == ["ok"] * 3


class Scripted(pool.WorkerPool):
    """Workers without processes that send the messages of a script."""

    def __init__(self, size: int, script: list[tuple[int, object]]) -> None:
        self.size, self.script, self.log = size, script, list[tuple[object, ...]]()

    def send(self, worker, job):
        self.log.append(("send", worker, job.cell_id, sorted(job.checkpoints)))

    def wait(self, workers, seconds):
        return self.script[0][0] if self.script else None

    def receive(self, worker):
        _, said = self.script.pop(0)
        if isinstance(said, pool.WorkerLost):
            raise said
        return said

    def stop(self, worker):
        self.log.append(("stop", worker))

    def recycle(self, worker):
        return False


def test_what_a_lost_worker_had_finished_goes_to_the_next_one() -> None:
    from robustbench_med.runner.messages import Checkpoint, Done, Job, Started

    a, b = (Job(None, name, Path()) for name in "ab")  # type: ignore[arg-type]
    script = [
        (0, Started(4)),
        (1, Started(4)),
        (0, Checkpoint("x", b"1", 2, 0.5)),
        (0, pool.WorkerLost("?")),
        (1, Done()),
        (0, Done()),
    ]
    scripted = Scripted(2, script)
    heard = [(job.cell_id, type(message).__name__) for job, message in pool.dispatch(scripted, iter([a, b]), None)]
    assert heard == [("a", "Started"), ("b", "Started"), ("a", "Checkpoint"), ("b", "Done"), ("a", "Done")]
    assert scripted.log == [
        ("send", 0, "a", []),
        ("send", 1, "b", []),
        ("send", 0, "a", ["x"]),
        ("stop", 0),
        ("stop", 1),
    ]


ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


@ray
@pytest.mark.slow
def test_ray_gives_the_same_records_and_replaces_workers_that_die(toys: Registry, tmp_path: Path) -> None:
    dies = f"faulty:how=die,after=4,times=1,file={tmp_path / 'calls'}"
    asked = {"attack": ["shift", dies], "seed": [0, 1], "diagnostics": "off", "access": ["oblivious", "transfer"]}
    records = run(toys, tmp_path / "a", **asked, executor="ray:workers=2")
    assert [r.status for r in records] == ["ok"] * 8
    assert len((tmp_path / "calls").read_text()) == 4 * 8 + 1
    alone = run(toys, tmp_path / "b", **asked)
    assert sorted(lines(tmp_path / "a")) == sorted(lines(tmp_path / "b"))
    assert [r.cell_id for r in alone] == [r.cell_id for r in run(toys, tmp_path / "b", **asked)]


@ray
@pytest.mark.slow
def test_ray_stops_what_takes_too_long(toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    clock(monkeypatch, calls.exists)
    asked = {"attack": [f"faulty:how=hang,file={calls}", "shift"], "time_limit": 1, "executor": "ray:workers=1"}
    records = run(toys, tmp_path / "out", **asked)
    assert [r.status for r in records] == ["failed", "ok"]
    assert "TimeLimit" in (records[0].reason or "")


@ray
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_ray_listens_on_loopback_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from robustbench_med.runner.executors.config import OnRay
    from robustbench_med.runner.executors.ray import _ray

    monkeypatch.setenv("RBMED_MARK", str(tmp_path))
    with _ray(OnRay(workers=1), 0):
        import ray

        assert ray.get(ray.remote(lambda: 1).remote()) == 1
        ports = listening(str(tmp_path))
    assert len(ports) > 2
    assert not [port for port in ports if port[0] not in LOOPBACK]


@ray
@pytest.mark.slow
def test_ray_says_that_it_has_no_room(toys: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Ray offers .* too few for a worker with 1 and 1"):
        run(toys, tmp_path / "out", executor="ray:workers=1,gpus=1")
