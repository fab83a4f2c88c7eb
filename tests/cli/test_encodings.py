"""Every command writes what it has to, whatever the encoding of the console and the names of the files."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from helpers import paths
from helpers.processes import run

from robustbench_med.cli import console
from robustbench_med.cli.main import main


def written(*words: str, encoding: str, home: Path) -> str:
    """What a command writes where both outputs have an encoding."""
    outputs = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(home))
        patch.setattr(console.out, "width", 160)
        patch.setattr(sys, "argv", ["rbmed", "-p", str(paths.TOY), *words])
        for name, output in zip(("stdout", "stderr"), outputs, strict=True):
            patch.setattr(sys, name, output)
        with pytest.raises(SystemExit) as ended:
            main()
        for output in outputs:
            output.flush()
    text = b"".join(output.buffer.getvalue() for output in outputs).decode(encoding)  # type: ignore[attr-defined]
    assert not ended.value.code, text
    return text


PARTITION = ("data", "partition", "stripes")
PLAN = (
    *("plan", "--train", "--model", "linear", "--access", "oblivious"),
    *("--dataset", "stripes", "--attack", "fgsm", "--defense", "undefended"),
)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437"])
def test_bars_are_drawn_with_what_the_console_has(tmp_path: Path, encoding: str) -> None:
    text = written(*PARTITION, encoding=encoding, home=tmp_path)
    bar = {"cp437": "█", "cp1252": "#"}[encoding]
    assert f"{bar * 10}" in text
    assert "labels: " in text
    assert "\\u" not in text


@pytest.mark.parametrize(("command", "words"), [(PARTITION, "labels: "), (PLAN, "fgsm")], ids=["partition", "plan"])
def test_every_command_writes_to_a_console_of_ascii(tmp_path: Path, command: tuple[str, ...], words: str) -> None:
    text = written(*command, encoding="ascii", home=tmp_path)
    assert "Traceback" not in text
    assert words in text


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_names_that_the_console_lacks_are_escaped(tmp_path: Path, encoding: str) -> None:
    """In a program of its own, whose outputs get the encoding from the environment."""

    def rbmed(*words: object) -> str:
        env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "RBMED_HOME": str(tmp_path)}
        done = run([sys.executable, "-m", "robustbench_med", *map(str, words)], env=env, encoding=encoding)
        return done.stdout + done.stderr

    folder = tmp_path / "Łódź \N{FACE WITH TEARS OF JOY}"
    folder.mkdir()
    text = rbmed("data", "register", "imagefolder", folder)
    assert ("Łódź" in text) == (encoding == "utf-8")
    assert (r"\u0141\xf3d\u017a \U0001f602" in text.replace("ó", r"\xf3")) == (encoding == "cp1252")
    assert "imagefolder" in rbmed("data", "list", "--json")
