"""The benchmark for a GPU runs, from end to end, where there is none."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.paths import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("device", ["pretend", "cpu"])
def test_it_runs_without_a_gpu(device: str) -> None:
    command = [sys.executable, "gpu.py", "--device", device, "--images", "4", "--steps", "1"]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    tables = ("images/s", "other answers", "ours faster by", "operations")
    assert [title for title in tables if title not in done.stdout] == []
    assert "not measured" not in done.stdout
