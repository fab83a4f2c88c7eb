"""Ctrl-C and ``kill`` at any moment end the program with their exit code and no traceback; bad output is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT, TOY
from helpers.processes import run

#: A signal when these modules are first imported, and at exit if asked.
PROGRAM = """
import atexit, os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name in at:
            at.remove(name)
            os.kill(os.getpid(), number)
        if name == "typer" and "exit" in at:
            atexit.register(os.kill, os.getpid(), number)

number = int(sys.argv.pop(1))
at = sys.argv.pop(1).split(",")
sys.meta_path.insert(0, Interrupt())
from robustbench_med.cli.entry import main
main()
"""
ENV = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@pytest.mark.parametrize(
    "at",
    [
        "robustbench_med.cli.streams",
        "typer",
        "rich.console",
        "robustbench_med.cli.commands.run",
        "robustbench_med.cli.commands.completion",
        "exit",
        "robustbench_med.grid.config",
        "robustbench_med.grid.config,exit",
        "pydantic,torch",
    ],
)
def test_ctrl_c_at_any_moment(at: str, tmp_path: Path) -> None:
    done = signalled(signal.SIGINT, at, tmp_path)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: interrupted" in done.stderr


@pytest.mark.parametrize("at", ["typer", "exit", "robustbench_med.grid.config", "pydantic,torch"])
def test_kill_at_any_moment(at: str, tmp_path: Path) -> None:
    done = signalled(signal.SIGTERM, at, tmp_path)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: terminated" in done.stderr


def signalled(number: int, at: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = ["-p", TOY, "plan", "--dataset", "stripes"] if "config" in at or "torch" in at else ["list"]
    # Tests that were started in the background ignore Ctrl-C, which their children would inherit.
    heeding = PROGRAM.replace(
        "import atexit", "import signal; signal.signal(2, signal.default_int_handler); import atexit", 1
    )
    return run([sys.executable, "-c", heeding, str(int(number)), at, *command], check=False, env=ENV, cwd=tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_was_switched_off_stays_so(number: int, tmp_path: Path) -> None:
    off = f"import signal; signal.signal({int(number)}, signal.SIG_IGN); import atexit"
    ignored = PROGRAM.replace("import atexit", off, 1)
    command = [sys.executable, "-c", ignored, str(int(number)), "typer", "list"]
    assert run(command, env=ENV, cwd=tmp_path).returncode == 0


def shell(line: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return run(["sh", "-c", line.replace("rbmed", f"{sys.executable} -m robustbench_med")], check=False, env=ENV)


@pytest.mark.parametrize(
    "line", ["rbmed list >&-", "rbmed list 2>&-", "rbmed list <&-", "(rbmed list; echo $? >&2) | true"]
)
def test_closed_output_is_no_error(line: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == 0
    assert done.stderr.strip() in ("", "0")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["list", "list --json", "--help", "--version"])
def test_full_output_is_one_line(command: str, tmp_path: Path) -> None:
    done = shell(f"rbmed {command} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


def test_text_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    done = shell("PYTHONIOENCODING=ascii rbmed --help", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_a_plugin_that_ends_the_program_is_an_error(tmp_path: Path) -> None:
    plugin = tmp_path / "quitter.py"
    plugin.write_text(
        "import sys\nimport robustbench_med as rbmed\n\n\nclass Quit(rbmed.Report):\n    def render(self, table):\n"
        "        sys.exit(0)\n\n\n@rbmed.hookimpl\ndef rbmed_reports():\n"
        "    yield rbmed.ReportSpec(name='quit', target='quitter:Quit', summary='\\x1b[31mquits')\n"
    )
    records = ROOT / "leaderboard" / "records" / "leaderboard-brainsim2.jsonl"
    done = shell(f"rbmed -p {plugin} table {records} --report quit", tmp_path)
    assert done.returncode == 1
    assert "error: SystemExit: a plugin ended the program (0)" in done.stderr
    assert "\x1b" not in shell(f"rbmed -p {plugin} list reports", tmp_path).stdout
