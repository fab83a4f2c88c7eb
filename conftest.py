"""For the tests of the core and of every plugin: one thread each, no network, and a home of the session's own."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

# Before any test imports torch: two test processes with two threads each are slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Neither may reach the network.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Point RBMED_HOME at a fresh folder, shared by the session's workers, and forget the user's settings."""
    if hasattr(config, "workerinput"):
        return  # a worker inherits the controller's environment
    for name in [name for name in os.environ if name.startswith("RBMED_")]:
        del os.environ[name]
    os.environ["RBMED_HOME"] = tempfile.mkdtemp(prefix="rbmed-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's home."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["RBMED_HOME"], ignore_errors=True)
