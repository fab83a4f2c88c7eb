"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.grids import trained

from robustbench_med.plugins.registry import Registry


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The toy plugin in a home of its own, both of its defenses trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(tmp_path_factory.mktemp("home")))
        yield trained()
