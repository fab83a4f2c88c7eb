"""What is started often imports little: checked in a fresh interpreter, through ``sys.modules``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from helpers.distributions import GOOD, distribution
from helpers.paths import ROOT
from helpers.processes import run

HEAVY = {"torch", "pandas", "numpy", "pydantic", "pyarrow", "scipy", "timm", "diffusers", "flwr"}


def loaded(code: str, path: Path) -> set[str]:
    """The modules that are loaded after ``code`` ran, with the fake distributions in ``path`` installed."""
    tell = "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))"
    script = f"import sys, json, atexit\n{tell}\n{code}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]), "RBMED_PLUGINS": "rbmed-tgood"}
    done = run([sys.executable, "-c", script], env=env)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "from robustbench_med.plugins import hookspecs, registry, specs",
        "from robustbench_med.plugins.components import parse; parse('a:b=[c:d=1],e=4/255')",
        "from robustbench_med.files.paths import home; home()",
        "sys.argv[1:] = ['--help']; from robustbench_med.cli.main import main; main()",
        "sys.argv[1:] = ['run', '--help']; from robustbench_med.cli.main import main; main()",
        "sys.argv[1:] = ['plan', '--help']; from robustbench_med.cli.main import main; main()",
        "sys.argv[1:] = ['list']; from robustbench_med.cli.main import main; main()",
        "sys.argv[1:] = ['list', 'attack', '--json']; from robustbench_med.cli.main import main; main()",
        "sys.argv[1:] = ['plugins']; from robustbench_med.cli.main import main; main()",
        "sys.argv[1:] = ['data', 'list']; from robustbench_med.cli.main import main; main()",
    ],
)
def test_nothing_heavy_is_imported(tmp_path, code):
    distribution(tmp_path, "rbmed-tgood", GOOD)
    assert loaded(code, tmp_path) & HEAVY == set()


def test_showing_a_component_does_import_it(tmp_path):
    distribution(tmp_path, "rbmed-tgood", GOOD)
    code = "sys.argv[1:] = ['show', 'attack/push']; from robustbench_med.cli.main import main; main()"
    assert {"torch", "pydantic", "rbmed_tgood_impl"} <= loaded(code, tmp_path)
