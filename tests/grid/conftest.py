"""The toys for tests that only plan."""

from __future__ import annotations

import pytest
from helpers.paths import TOY

from robustbench_med.plugins.registry import Registry


@pytest.fixture(scope="module")
def toys() -> Registry:
    """The toy plugin, without weights."""
    return Registry(files=[TOY])
