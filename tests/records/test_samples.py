"""Per-image results: what is written comes back, whole or not at all."""

from __future__ import annotations

import io
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest
from helpers.outcomes import outcome
from helpers.processes import LIMIT

from robustbench_med.records import samples


def test_samples_come_back(tmp_path: Path) -> None:
    made = outcome()
    samples.write(made, tmp_path / "deep" / "a.parquet")
    frame = pd.read_parquet(tmp_path / "deep" / "a.parquet")
    assert len(frame) == 12
    assert list(frame["attacked_prediction"]) == made.attacked.predictions.flatten().tolist()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.parquet"]


def rewrite(path: Path, n: int) -> None:
    for _ in range(10):
        samples.write(outcome(n), path)


def test_two_writers_of_one_cell_leave_one_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    samples.write(outcome(3), file)
    writers = [multiprocessing.get_context("fork").Process(target=rewrite, args=(file, n)) for n in (4, 5)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        # Read at once: pandas opens a path more than once, and would see two files where one took the other's place.
        assert len(pd.read_parquet(io.BytesIO(file.read_bytes()))) in (6, 8, 10)
    for writer in writers:
        writer.join(LIMIT)
        assert writer.exitcode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_an_error_while_writing_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.parquet"
    samples.write(outcome(3), file)
    before = file.read_bytes()

    def broken(self: pd.DataFrame, path: Path, **more: object) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("as asked")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", broken)
    with pytest.raises(RuntimeError, match="as asked"):
        samples.write(outcome(5), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
