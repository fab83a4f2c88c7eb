"""The executor `slurm`: the request as a file, what is refused, and arrays on a real cluster of one node."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from helpers.processes import run, started
from helpers.slurm import cluster, missing

from robustbench_med.errors import BadParameter, DataError, UsageError
from robustbench_med.grid.config import RunConfig, build
from robustbench_med.records.compare import changed
from robustbench_med.records.record import Record, read
from robustbench_med.runner.executors.config import OnSlurm
from robustbench_med.runner.executors.config import read as read_executor
from robustbench_med.runner.executors.request import Request
from robustbench_med.runner.executors.slurm import SlurmExecutor

#: Several chunks a cell, several cells.
GRID = (
    *("--defense", "undefended", "--baseline", "", "--attack", "apgd:steps=60", "--access", "oblivious"),
    *("--limit", "64", "--batch-size", "4", "--seed", "0", "--seed", "1", "--diagnostics", "off", "--no-share"),
)

#: Requeues and kills of the test that disturbs an array.
REQUEUES = int(os.environ.get("REQUEUES", "6"))


# --- without a cluster ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threat": ["linf:4/255", "l2:0.5,goal=hide-lesion"], "seed": [3, 4], "out": "x y/z", "train_seed": [1]},
        {
            "eps": ["2/255", "8/255"],
            "include": ["defense=medfedpure*,attack=[apgd:steps=2]"],
            "limit": 4,
            "access": ["full"],
        },
        {"defense": ["medfedpure:detector=[mae:mask=.5]"], "batch_size": 16, "device": "cpu", "time_limit": 3.5},
    ],
    ids=str,
)
def test_a_request_is_read_as_it_was_written(options: dict[str, object], tmp_path: Path) -> None:
    request = Request(
        build(dict(options)), (tmp_path / "my plugin.py",), ("rbmed-attacks",), ("rbmed", "run", "--x=y z")
    )
    request.write(tmp_path / "request.json")
    found = Request.read(tmp_path / "request.json")
    for field in fields(RunConfig):
        assert getattr(found.config, field.name) == getattr(request.config, field.name), field.name
    assert found == request


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"options": {"seed": "x"}, "plugins": [], "only": null, "command": []}']
)
def test_a_file_that_is_no_request_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(text)
    with pytest.raises(DataError, match="is no request for a run"):
        Request.read(tmp_path / "request.json")


def test_parameters_of_the_executor() -> None:
    assert read_executor("slurm:tasks=4,cpus=2,time=0-12") == OnSlurm(tasks=4, cpus=2, time="0-12")
    with pytest.raises(BadParameter, match="tasks"):
        read_executor("slurm:tasks=0")


def test_without_slurm_the_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="needs sbatch, which is not on this machine"):
        SlurmExecutor(OnSlurm(), Request(build({})))


def test_a_path_that_slurm_would_read_as_a_pattern_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sbatch", "squeue"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="reads a % in a path as a pattern"):
        SlurmExecutor(OnSlurm(), Request(build({"out": "a%j"})))


def test_a_task_that_is_ended_says_that_it_goes_on(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from robustbench_med.runner.executors import slurm_task\n"
        "def read(path):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "slurm_task.Request.read = read\n"
        f"slurm_task.main(__import__('pathlib').Path({str(tmp_path)!r}), 1)\n"
    )
    done = run([sys.executable, "-c", code], check=False)
    assert done.returncode == 143, done.stderr
    assert done.stdout.startswith("terminated: finished chunks are kept; ")
    assert done.stderr == ""


# --- on a cluster ---

real = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    # A short path: sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="sl") as folder, cluster(Path(folder)) as env:
        yield {**env, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def undisturbed(slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    out = tmp_path_factory.mktemp("local") / "out"
    run(rbmed(out, "local"), env=slurm)
    return records(out)


def rbmed(out: Path, executor: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "robustbench_med", "run", *GRID, "--executor", executor, "--out", str(out), *more]


def records(out: Path) -> dict[str, Record]:
    return {record.cell_id: record for record in read(out / "records.jsonl")}


def same(one: dict[str, Record], two: dict[str, Record]) -> bool:
    return one.keys() == two.keys() and not any(changed(one[cell], two[cell]) for cell in one)


@real
@pytest.mark.slow
def test_an_array_measures_what_a_local_run_measures(
    slurm: dict[str, str], undisturbed: dict[str, Record], tmp_path: Path
) -> None:
    done = run(rbmed(tmp_path / "out", "slurm:tasks=2"), env=slurm)
    assert "2 tasks submitted" in done.stderr
    assert "2 cells" in done.stderr
    assert same(undisturbed, records(tmp_path / "out"))
    for cell in undisturbed:
        log = (tmp_path / "out" / "slurm" / "logs" / f"{cell}.log").read_text()
        assert log.splitlines()[-1].endswith(": ok ")
    assert not list((tmp_path / "out").glob("partial/*"))


@real
@pytest.mark.slow
def test_what_slurm_refuses_is_said_before_anything_is_written(slurm: dict[str, str], tmp_path: Path) -> None:
    refused = run(rbmed(tmp_path / "out", "slurm:partition=none"), env=slurm, check=False)
    assert refused.returncode == 2
    assert "Slurm refuses the array" in refused.stderr
    assert "invalid partition" in refused.stderr
    assert not (tmp_path / "out" / "records.jsonl").exists()


@real
@pytest.mark.slow
def test_requeued_and_killed_tasks_lose_nothing_and_the_run_that_submitted_may_end(
    slurm: dict[str, str], undisturbed: dict[str, Record], tmp_path: Path
) -> None:
    """``REQUEUES=100 pytest -m slow -k requeued`` makes it long; every disturbance counted stopped a task in a cell."""
    dice, met, rounds = random.Random(0), 0, 0
    while met < REQUEUES:
        out = tmp_path / f"round-{rounds}"
        met, rounds = met + disturb(slurm, out, REQUEUES - met, dice), rounds + 1
        assert same(undisturbed, records(out))
        sys.stdout.write(
            f"{met} requeues and kills within cells, {rounds} runs: the records are the undisturbed ones\n"
        )


def disturb(env: dict[str, str], out: Path, count: int, dice: random.Random) -> int:
    """Run the grid to its end while tasks are requeued or killed, and at times the submitting run too.

    Tasks are hit at random moments, but only while they measure a cell: one that is loading libraries has nothing to
    lose, and on a slow machine it would be hit there nearly every time.

    Returns:
        How many requeues and kills, at most ``count``, met a task in a cell.
    """
    met, known = 0, dict[str, int]()
    while not _all_ok(out):
        with started(
            rbmed(out, "slurm:tasks=2"), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as waiting:
            while waiting.poll() is None:
                time.sleep(dice.uniform(0.2, 3))
                for task in _running(env) if met < count else ():
                    if dice.random() < 0.5 and _in_a_cell(out, task, known):
                        kill = dice.random() < 0.3
                        words = ["scancel", "--signal=KILL", task] if kill else ["scontrol", "requeue", task]
                        met += subprocess.run(words, env=env, capture_output=True, check=False).returncode == 0
                if dice.random() < 0.02:
                    break  # the submitting run is killed; the next one finds the array
    return met


def _in_a_cell(out: Path, task: str, known: dict[str, int]) -> bool:
    """A cell's log says last that this task of the array has started it, and has not said so at the last hit.

    ``known`` has the lines of each log at the last hit of a task in its cell.
    """
    for log in (out / "slurm" / "logs").glob("*.log"):
        lines = log.read_text(errors="replace").splitlines() if not log.name.startswith("task-") else []
        begun = len(lines) > known.get(log.name, 0)
        if begun and lines[-1].endswith(f": started in task {task.rpartition('_')[2]}"):
            known[log.name] = len(lines)
            return True
    return False


def _all_ok(out: Path) -> bool:
    if not (out / "records.jsonl").is_file():
        return False
    return len(found := records(out)) == 2 and all(record.status == "ok" for record in found.values())


def _running(env: dict[str, str]) -> list[str]:
    said = subprocess.run(["squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i"], env=env, capture_output=True, text=True)
    return said.stdout.split()
