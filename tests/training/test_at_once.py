"""Two runs that need the same weights at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import TOY

import robustbench_med as rbmed
from robustbench_med.files.paths import home
from robustbench_med.plugins.registry import Registry
from robustbench_med.training import train

HOLD = """
import sys
from pathlib import Path
from robustbench_med.files.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    return Registry(files=[TOY])


def test_the_second_waits_and_takes_what_the_first_has_trained(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rbmed.train_defense("guarded", "stripes", only=["classifier"], registry=toys)
    (folder,) = (home() / "parts").glob("classifier-*")
    done = folder.rename(tmp_path / "done")
    trained: list[Path] = []
    monkeypatch.setattr(train, "train_part", lambda folder, task: trained.append(folder))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        start, end = other.stdin, other.stdout
        assert start is not None
        assert end is not None
        assert end.readline() == "held\n"
        said: list[str] = []

        def waits(message: str, *_: object, **__: object) -> None:
            """The other process finishes once this one waits."""
            said.append(message)
            done.rename(folder)
            start.write("go on\n")
            start.flush()

        monkeypatch.setattr("robustbench_med.files.locks.warnings.warn", waits)
        rbmed.train_defense("guarded", "stripes", only=["classifier"], registry=toys)
    assert said == ["part 'classifier' of 'guarded' is being made by another process, for which this one waits"]
    assert trained == []
