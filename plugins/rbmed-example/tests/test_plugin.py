"""The plugin as a user meets it: installed, listed without torch, and short enough to copy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import rbmed_example
from robustbench_med.testing import check_plugin


def test_conformance() -> None:
    check_plugin("rbmed-example")


def test_plugin_module_imports_nothing_heavy() -> None:
    code = "import sys, rbmed_example.plugin as p; list(p.rbmed_attacks()); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_the_attack_is_one_file_under_120_lines() -> None:
    assert len((Path(rbmed_example.__file__).parent / "mifgsm.py").read_text().splitlines()) < 120
