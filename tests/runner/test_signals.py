"""Ctrl-C and ``kill`` end a run: finished chunks are kept, and the last line says how to resume."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.grids import COMMAND, lines
from helpers.processes import LIMIT, started
from helpers.processes import run as run_process

from robustbench_med.plugins.registry import Registry
from robustbench_med.runner.executors import ray
from robustbench_med.runner.executors.config import OnRay


@pytest.mark.parametrize(
    ("how", "code", "word"),
    [pytest.param("interrupt", 130, "interrupted", marks=pytest.mark.long), ("terminate", 143, "terminated")],
)
def test_ctrl_c_and_kill_keep_finished_chunks(how: str, code: int, word: str, toys: Registry, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    command = [*COMMAND, "--diagnostics", "off", "--out", str(tmp_path / "out")]
    command += ["--attack", f"faulty:how={how},after=4,times=1,file={calls}"]
    first = run_process(command, check=False)
    assert first.returncode == code
    assert "Traceback" not in first.stderr
    last = first.stderr.splitlines()[-1]
    assert last.startswith(f"{word}: no cell is complete; resume with: rbmed -p ")
    assert len(list((tmp_path / "out" / "partial").glob("*/0*"))) == 4
    second = run_process(command, check=False)
    assert (second.returncode, len(calls.read_text())) == (0, 9)


def runs(group: int) -> bool:
    """Whether any process of a group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("group", [pytest.param(False, marks=pytest.mark.long), True])
def test_kill_ends_a_run_in_several_processes(group: bool, toys: Registry, tmp_path: Path) -> None:
    """Of the run alone, or of all its processes, as a scheduler does."""
    calls, folder = tmp_path / "calls", tmp_path / "out"
    command = [*COMMAND, "--diagnostics", "off", "--out", str(folder), "--seed", "0", "--seed", "1"]
    command += ["--executor", "local:workers=2", "--attack", f"faulty:seconds=0.2,file={calls}"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + LIMIT
        while len(list((folder / "partial").glob("*/0*"))) < 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 143, err
        while runs(process.pid):  # the last of its processes may take a moment
            assert time.monotonic() < until
            time.sleep(0.02)
    assert "Traceback" not in err
    assert re.match(r"terminated: (no cell is complete|1 cell is in .*); resume with: rbmed -p ", err.splitlines()[-1])
    whole = len(lines(folder)) if (folder / "records.jsonl").exists() else 0
    kept = len(list((folder / "partial").glob("*/0*"))) + 8 * whole
    calls.unlink()
    second = run_process(command, check=False)
    assert (second.returncode, len(calls.read_text())) == (0, 16 - kept), second.stderr


def test_ray_leaves_kill_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        shutdown=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    before = signal.getsignal(signal.SIGTERM)
    with ray._ray(OnRay(), 0):
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before
