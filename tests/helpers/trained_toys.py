"""Weights of the toy defenses: trained once in a process, and copied where they are wanted."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

import robustbench_med as rbmed
from helpers.paths import TOY
from robustbench_med.files.paths import home
from robustbench_med.plugins.registry import Registry

#: The session's home, which is removed in the end; tests that have a home of their own set it later.
SESSION = os.environ.get("RBMED_HOME")


def place() -> None:
    """Put the weights of both toy defenses, on stripes, under RBMED_HOME."""
    shutil.copytree(_trained(), home(), dirs_exist_ok=True)


@cache
def _trained() -> Path:
    folder = tempfile.mkdtemp(prefix="toys-", dir=SESSION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", folder)
        registry = Registry(files=[TOY])
        for defense in ("guarded", "bare"):
            rbmed.train_defense(defense, "stripes", registry=registry)
    return Path(folder)
