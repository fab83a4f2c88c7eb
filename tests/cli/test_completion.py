"""The shell completes names of plugins, their parameters and choices."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.distributions import GOOD, distribution
from helpers.processes import run

from robustbench_med.cli.commands.completion import SHELLS, VARIABLE

FOUND = [
    ("run --attack pu", ["push"]),
    ("run --attack push:", ["push:steps=", "push:share="]),
    ("run --attack push:sh", ["push:share="]),
    ("run --attack push:steps=2,", ["push:steps=2,share="]),
    ("run --attack nothing:", []),
    ("show atta", ["attack/"]),
    ("show attack/p", ["attack/push"]),
    ("check attack/push:st", ["attack/push:steps="]),
    ("new repo", ["report"]),
    ("list mod", ["model"]),
    ("comp", ["completion"]),
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    distribution(tmp_path, "rbmed-tgood", GOOD)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path, "RBMED_PLUGINS": "rbmed-tgood", VARIABLE: "complete_bash"}


def test_what_is_offered_at_a_place(environment: dict[str, str]) -> None:
    """All in one process, started as a shell starts it."""
    code = (
        "import os, sys, contextlib, io; from robustbench_med.cli.main import app\n"
        "for line in sys.argv[1:]:\n"
        "    words = 'rbmed ' + line\n"
        "    os.environ.update(COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1))\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n"
        "        app(prog_name='rbmed')\n"
        "    print([item.partition(',')[2] for item in out.getvalue().split()])\n"
    )
    lines = [line for line, _ in FOUND]
    done = run([sys.executable, "-W", "ignore", "-c", code, *lines], env=environment)
    assert done.stdout.splitlines() == [str(options) for _, options in FOUND], done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_the_shell_reads(shell: str, tmp_path: Path) -> None:
    done = invoke("completion", shell)
    assert done.exit_code == 0
    assert f"{VARIABLE}=complete_{shell}" in done.stdout
    if program := shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(done.stdout, encoding="utf-8")
        run([program, "-n", file])


def test_an_unknown_shell_is_refused() -> None:
    done = invoke("completion", "csh")
    assert done.exit_code == 2
    assert "unknown shell 'csh'; valid: bash, zsh, fish" in done.stderr
