"""Parts other than attacks that misbehave cost their own cell, and neither the streams nor the folder of the run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.grids import lines, run
from torch import Tensor

from robustbench_med.plugins.registry import Registry


def _change(monkeypatch: pytest.MonkeyPatch, cls: str, method: str, change: Callable[[Any], Any]) -> None:
    """Let a method of the toys return what ``change`` makes of its answer."""
    owner = getattr(sys.modules["toy_plugin"], cls)
    before = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda self, *given: change(before(self, *given)))


@pytest.mark.parametrize(("cls", "method"), [("Blur", "purify"), ("Roughness", "score"), ("Stripes", "split")])
def test_what_a_part_changes_of_the_process_and_prints_stays_with_it(
    toys: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cls: str,
    method: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run(toys, Path("before"))

    def meddle(made: Any) -> Any:
        print("hello")  # noqa: T201 -- as the code of a plugin may
        os.chdir("/")
        sys.setrecursionlimit(3000)
        return made

    _change(monkeypatch, cls, method, meddle)
    limit = sys.getrecursionlimit()
    run(toys, Path("out"))
    assert (Path.cwd(), sys.getrecursionlimit()) == (tmp_path, limit)
    assert lines(tmp_path / "out") == lines(tmp_path / "before")
    said = capsys.readouterr()
    assert said.out == ""
    assert "hello\n" in said.err


def test_standard_output_is_only_results_when_a_plugin_file_prints(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chatty_plugin.py"
    file.write_text("import os\nprint('loaded')\nos.chdir('/')\n", encoding="utf-8")
    here = Path.cwd()
    Registry(files=[file])
    assert capfd.readouterr() == ("", "loaded\n")
    assert Path.cwd() == here


@pytest.mark.parametrize(
    ("cls", "method", "change", "told"),
    [
        ("Blur", "purify", lambda x: 2 * x - 1, "purifier 'blur' (toy_plugin:Blur) returned values from -"),
        (
            "Roughness",
            "score",
            lambda s: s[:, None],
            "detector 'roughness' (toy_plugin:Roughness) returned torch.float32 (",
        ),
        (
            "LinearClassifier",
            "forward",
            lambda y: y.argmax(1),
            "classifier LinearClassifier (toy_plugin) returned torch.int",
        ),
        (
            "LinearClassifier",
            "forward",
            lambda y: torch.cat([y, y[:, :1]], 1),
            "classifier LinearClassifier (toy_plugin) of model 'linear' (toy_plugin:LinearModel) returned 3 logits; "
            "data set 'stripes' has 2 classes",
        ),
    ],
)
def test_a_part_that_breaks_its_interface_fails_its_cell_by_name(
    toys: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cls: str,
    method: str,
    change: Callable[[Tensor], Any],
    told: str,
) -> None:
    _change(monkeypatch, cls, method, change)
    (record,) = run(toys, tmp_path / "out")
    assert (record.status, record.n, record.metrics) == ("failed", 0, {})
    assert told in (record.reason or "")
    assert json.loads(json.dumps(record.reason)).isprintable()
    assert not list((tmp_path / "out").glob("samples/*"))
