"""The plugin as a user meets it: installed, listed without torch, and short enough to copy."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import rbmed_example
from rbmed_example.plugin import rbmed_attacks
from robustbench_med import Attack


def test_entry_point_names_the_plugin_module() -> None:
    (point,) = [point for point in entry_points(group="rbmed") if point.name == "example"]
    assert point.value == "rbmed_example.plugin"


def test_target_of_the_spec_is_an_attack() -> None:
    (spec,) = rbmed_attacks()
    module, name = spec.target.split(":")
    assert issubclass(getattr(__import__(module, fromlist=[name]), name), Attack)


def test_plugin_module_imports_nothing_heavy() -> None:
    code = "import sys, rbmed_example.plugin as p; list(p.rbmed_attacks()); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_the_attack_is_one_file_under_120_lines() -> None:
    assert len((Path(rbmed_example.__file__).parent / "mifgsm.py").read_text().splitlines()) < 120
