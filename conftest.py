"""For the tests of the core and of every plugin: one thread each, no network, and a home of the session's own."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Generator
from functools import cache
from importlib import import_module

import pytest
import typer.testing

# Before any test imports torch: two test processes with two threads each are slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Neither may reach the network.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"

# Its runner makes the commands of an app again for every call, which takes longer than most calls.
typer.testing._get_command = cache(typer.testing._get_command)


def pytest_configure(config: pytest.Config) -> None:
    """Point RBMED_HOME at a fresh folder, shared by the session's workers, and forget the user's settings."""
    if hasattr(config, "workerinput"):
        return  # a worker inherits the controller's environment
    for name in [name for name in os.environ if name.startswith("RBMED_")]:
        del os.environ[name]
    os.environ["RBMED_HOME"] = tempfile.mkdtemp(prefix="rbmed-tests-")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the collector of garbage away from what stays for the whole session: modules and thousands of tests.

    It would look at them again and again: half a second each time, and each cell that is measured asks for two.
    """
    # It looks for what refers to a generator of random numbers, and would not find what is kept away.
    import_module("hypothesis")
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        _settle()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The same for what a file of tests has imported."""
    if nextitem is not None and nextitem.path != item.path:
        _settle()


def _settle() -> None:
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's home."""
    gc.unfreeze()  # else libraries report as leaks at exit what stayed
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["RBMED_HOME"], ignore_errors=True)
