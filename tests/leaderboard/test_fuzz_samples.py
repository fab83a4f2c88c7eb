"""Fuzzing of per-image results in a folder of results, which may be a stranger's: read, or refused in one line.

A few cases run each time. The long run::

    FUZZ_CASES=10000 pytest tests/leaderboard/test_fuzz_samples.py
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.fuzz import FUZZ, LEAVES, refused
from helpers.paths import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.sources.consistency import outcome_of
from robustbench_med.leaderboard.sources.image_results import dumped, parse
from robustbench_med.records import record as records

LINE = (ROOT / "leaderboard" / "certified" / "records" / "brainsim.jsonl").read_text(encoding="utf-8").splitlines()[0]
N = 6
FACTS = json.loads(LINE) | {"n": N}
FACTS["metrics"] |= {"clean_accuracy": 1.0, "robust_accuracy": 1.0}
RECORD = records.parse(json.dumps(FACTS))


def frame() -> pd.DataFrame:
    """Six images, each answered rightly, with certificates."""
    rows = np.arange(N)
    columns: dict[str, Any] = {"index": rows, "patient_code": [f"{row:012x}" for row in rows], "site": "a"}
    columns |= {"label": rows % 2, "draw": 0, "distance": 0.1, "lesion_radius": 3.0}
    for side in ("clean", "attacked"):
        columns |= {f"{side}_prediction": rows % 2, f"{side}_rejected": False, f"{side}_score": rows / N}
    return pd.DataFrame(columns | {"certified_radius": 0.5, "certified_p_lower": 0.9})


WHOLE = frame()
CHANGES = st.lists(
    st.tuples(st.sampled_from(sorted(WHOLE)), st.integers(-1, N - 1), st.none() | LEAVES | st.binary(max_size=4)),
    max_size=3,
)


def read(data: bytes) -> None:
    file = Path(f"{RECORD.cell_id}.parquet")
    file.write_bytes(data)
    with refused(DataError):
        found = outcome_of(RECORD, Path())
        assert found is not None
        assert dumped(parse(dumped(found))) == dumped(found)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@FUZZ
@given(changes=CHANGES)
@example(changes=[("label", 0, 2**63 - 1)])
@example(changes=[("label", 0, None)])
@example(changes=[("index", 0, -1)])
@example(changes=[("clean_prediction", 2, 40)])
@example(changes=[("attacked_prediction", 2, -3)])
@example(changes=[("draw", 0, 1)])
@example(changes=[("lesion_radius", 0, float("inf"))])
@example(changes=[("certified_p_lower", 0, float("nan"))])
@example(changes=[("site", 0, "\ud7ff\n")])
def test_columns(changes: list[tuple[str, int, Any]]) -> None:
    columns: dict[str, Any] = {name: WHOLE[name].tolist() for name in WHOLE}
    for name, row, value in changes:
        if row < 0:
            columns.pop(name, None)
        elif name in columns:
            columns[name][row] = value
    file = io.BytesIO()
    try:
        pd.DataFrame(columns).to_parquet(file)
    except Exception:  # noqa: BLE001 -- no file can hold it
        return
    read(file.getvalue())


def _bytes() -> bytes:
    file = io.BytesIO()
    WHOLE.to_parquet(file)
    return file.getvalue()


GOOD = _bytes()
ENDS = st.integers(0, len(GOOD))


@FUZZ
@given(
    at=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4),
    end=st.integers(0, len(GOOD)),
)
@example(at=[], end=0)
@example(at=[], end=len(GOOD))
def test_bytes(at: list[tuple[int, int]], end: int) -> None:
    data = bytearray(GOOD)
    for place, value in at:
        data[place] = value
    read(bytes(data[:end] if end % 2 else data))
