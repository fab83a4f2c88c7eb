"""Cells are listed without the libraries of the networks: importing those takes longer than a plan of 2,000 cells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TELL = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
CALL = "from robustbench_med.cli.main import main; main()"


def test_a_plan_without_an_estimate_imports_no_network(tmp_path: Path) -> None:
    words = ["plan", "--defense", "medfedpure", "--access", "oblivious", "--no-estimate", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", f"{TELL}\nsys.argv[1:] = {words}\n{CALL}"], capture_output=True, text=True, check=True
    )
    assert "2 to run" in done.stdout
    loaded = set(done.stderr.split())
    assert {"torch", "rbmed_purifiers.diffusion.samplers", "rbmed_detectors.mae"} <= loaded
    assert not loaded & {"diffusers", "timm", "torchvision", "transformers"}
