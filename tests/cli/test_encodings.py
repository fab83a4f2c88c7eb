"""Every command writes what it has to, whatever the encoding of the console and the names of the files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from helpers import paths
from helpers.processes import run


def rbmed(*words: object, encoding: str, home: Path) -> str:
    env = {**os.environ, "PYTHONIOENCODING": encoding, "RBMED_HOME": str(home), "COLUMNS": "160"}
    program = [sys.executable, "-m", "robustbench_med", "-p", paths.TOY]
    done = run([*program, *map(str, words)], env={**env, "PYTHONUTF8": "0"}, encoding=encoding.partition(":")[0])
    return done.stdout + done.stderr


COMMANDS = (
    ("data", "partition", "stripes"),
    (
        "plan",
        "--train",
        "--model",
        "linear",
        "--access",
        "oblivious",
        "--dataset",
        "stripes",
        "--attack",
        "fgsm",
        "--defense",
        "undefended",
    ),
)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437"])
def test_bars_are_drawn_with_what_the_console_has(tmp_path: Path, encoding: str) -> None:
    text = rbmed(*COMMANDS[0], encoding=encoding, home=tmp_path)
    bar = {"cp437": "█", "cp1252": "#"}[encoding]
    assert f"{bar * 10}" in text
    assert "labels: " in text
    assert "\\u" not in text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_writes_to_a_console_of_ascii(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert "Traceback" not in rbmed(*command, encoding="ascii", home=tmp_path)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_names_that_the_console_lacks_are_escaped(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "Łódź \N{FACE WITH TEARS OF JOY}"
    folder.mkdir()
    text = rbmed("data", "register", "imagefolder", folder, encoding=encoding, home=tmp_path)
    assert ("Łódź" in text) == (encoding == "utf-8")
    assert (r"\u0141\xf3d\u017a \U0001f602" in text.replace("ó", r"\xf3")) == (encoding == "cp1252")
    assert "imagefolder" in rbmed("data", "list", "--json", encoding=encoding, home=tmp_path)
