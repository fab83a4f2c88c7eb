"""Fuzzing of references: a clear error or a valid reading; ``FUZZ_CASES=10000`` runs more cases."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fuzz import FUZZ, nothing_written, refused
from helpers.paths import TOY
from hypothesis import given
from hypothesis import strategies as st

from robustbench_med.errors import UsageError
from robustbench_med.plugins.components import resolve
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.plugins.references import parse as parse_ref
from robustbench_med.plugins.registry import Registry


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")


TOY = Registry(files=[TOY])
WORDS = st.sampled_from(
    ["shift", "factor", "fail", "=", ":", ",", "[", "]", "/", "1", "0.5", "true", " ", "-", "é", "\0"]
)


@FUZZ
@given(text=st.lists(WORDS, max_size=12).map("".join) | st.text(max_size=40))
def test_references(text: str) -> None:
    with nothing_written(), refused(UsageError):
        ref = parse_ref(text)
        assert ref.name
        assert resolve(TOY, "attack", ref).entry.spec.name == ref.name.rpartition("/")[2]


PLAIN = st.text("abcdefgh0123456789._-", min_size=1, max_size=8)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, min_size=2, max_size=3).map(lambda many: f"[{','.join(many)}]")
)


@FUZZ
@given(name=PLAIN, params=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True), VALUES, max_size=4))
def test_formatted_references_are_read_back(name: str, params: dict[str, str]) -> None:
    ref = PartRef(name, params)
    again = parse_ref(format_ref(ref))
    assert again.name == name
    assert format_ref(again) == format_ref(ref)
    assert set(again.params) == set(params)
