"""The command ``rbmed``, called in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from robustbench_med.cli.main import app


def invoke(*args: object, **options: Any) -> Result:
    """Call ``rbmed`` with these arguments; options are those of ``CliRunner.invoke``."""
    return CliRunner().invoke(app, list(map(str, args)), **options)


@contextmanager
def own_folder(tmp_path_factory: pytest.TempPathFactory, columns: int = 160) -> Iterator[None]:
    """An empty current folder, an empty home, and a terminal of so many columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("COLUMNS", str(columns))
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield
