"""`kill.py` with a small count; the long one is `python tests/helpers/kill.py`."""

from __future__ import annotations

import os
import sys

import pytest
from helpers.paths import HELPERS
from helpers.processes import run

SCRIPT = HELPERS / "kill.py"


def killed(count: int) -> str:
    command = [sys.executable, SCRIPT, "--count", str(count)]
    return run(command, env={**os.environ, "PYTHONWARNINGS": "ignore"}).stdout


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_loses_one_chunk_at_most() -> None:
    assert "records and samples identical" in killed(2)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_a_hundred_times() -> None:
    assert "records and samples identical" in killed(100)
