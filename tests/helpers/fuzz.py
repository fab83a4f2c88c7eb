"""What fuzz tests share: how many cases run, and what none of them may do."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from helpers.paths import ROOT

CASES = os.environ.get("FUZZ_CASES")
FUZZ = settings(
    max_examples=int(CASES or 60),
    deadline=None,
    derandomize=CASES is None,
    database=None if CASES is None else DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"),
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


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            "../../x",
            "/etc/passwd",
            "a\x1b[2J",
            "ladder",
            "ok",
            "1e999",
            "[a",
            "a:b=[c",
            -1,
            2**63,
            10**400,
            1e308,
            "",
            "x" * 2000,
        ]
    ),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["name", "reason", "rung"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something may be changed."""
    yield at
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(each, (*at, key))


@st.composite
def mutated(draw: st.DrawFn, originals: list[dict[str, Any]]) -> dict[str, Any]:
    """Something valid with up to three changes anywhere in it."""
    facts = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 3))):
        *where, last = draw(st.sampled_from([path for path in paths(facts) if path]))
        place: Any = facts
        for key in where:
            place = place[key]
        how = draw(st.sampled_from(["replace", "delete", "add"]))
        if how == "delete":
            del place[last]
        elif how == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=5))] = draw(JSON)
        else:
            place[last] = draw(JSON)
    return facts
