"""What fuzz tests share: how many cases run, and what none of them may do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

CASES = os.environ.get("FUZZ_CASES")
FUZZ = settings(
    max_examples=int(CASES or 60),
    deadline=None,
    derandomize=CASES is None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@contextmanager
def nothing_written(*allowed: Path) -> Iterator[None]:
    """No file appears beside the ones that are allowed, in the current folder or above it."""
    here = Path.cwd()
    before = set(here.iterdir()) | set(here.parent.iterdir())
    yield
    assert (set(here.iterdir()) | set(here.parent.iterdir())) - before <= set(allowed)


@contextmanager
def refused(*errors: type[Exception]) -> Iterator[None]:
    """One of these may be raised, with a message that is one line."""
    try:
        yield
    except errors as error:
        if len(str(error).splitlines()) != 1 or len(str(error)) > 2000:
            pytest.fail(f"{error!r}")
