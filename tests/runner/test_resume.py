"""Runs that are interrupted, repeated, or side by side: nothing is lost, nothing is measured twice."""

from __future__ import annotations

import datetime as dt
import json
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pandas as pd
import pytest
from helpers.grids import BASE, COMMAND, FILES, lines, run, stripped
from helpers.paths import HELPERS
from helpers.processes import LIMIT, started

from robustbench_med.errors import StoreError, UsageError
from robustbench_med.grid.config import build
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Silent
from robustbench_med.runner import checkpoints, evaluator
from robustbench_med.runner.runner import Runner


class Board(Silent):
    """Writes down what a run says of its cells."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def grid(self, total: int) -> Board:
        self.said.append(("grid", total))
        return self

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def started(self, cell_id: str, title: str, images: int) -> None:
        self.said.append(("started", images))

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        self.said.append(("advanced", images))

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        self.said.append(("finished", status, resumed))


def count(folder: Path) -> int:
    return len((folder / "calls").read_text()) if (folder / "calls").is_file() else 0


def test_an_interrupted_cell_resumes_at_its_next_chunk(toys: Registry, tmp_path: Path) -> None:
    def options(folder: Path, how: str) -> dict[str, object]:
        # The attack is called once a chunk, and once more for each control at a huge eps.
        return {"attack": f"faulty:how={how},after=6,times=1,file={folder / 'calls'}", "diagnostics": "cheap"}

    tmp_path.joinpath("a").mkdir()
    whole = run(toys, tmp_path / "a" / "out", **options(tmp_path / "a", "well"))
    broken = tmp_path / "b"
    broken.mkdir()
    config = {**BASE, **options(broken, "interrupt"), "out": broken / "out"}
    with pytest.raises(KeyboardInterrupt):
        list(Runner(build(config), toys).run())
    assert not (broken / "out" / "records.jsonl").exists()
    kept = sorted(path.name for path in (broken / "out" / "partial").glob("*/*"))
    assert kept == [
        "00000-0000000-0000003",
        "00000-0000003-0000006",
        "00000-0000006-0000009",
        "00000-0000009-0000012",
        "00000-controls",
        "00001-0000000-0000003",
    ]
    board = Board()
    (record,) = list(Runner(build(config), toys, board).run())
    assert board.said == [
        ("grid", 1),
        ("started", 24),
        ("advanced", 15),
        *[("advanced", 3)] * 3,
        ("finished", "ok", True),
    ]
    assert count(broken) == count(tmp_path / "a") + 1  # the call that was interrupted, and no other, was repeated
    assert record.seconds > 0
    text = (
        stripped(record.model_dump(mode="json")).replace("how=interrupt", "how=well").replace('"interrupt"', '"well"')
    )
    text = text.replace(str(broken), str(tmp_path / "a")).replace(record.cell_id, whole[0].cell_id)
    assert text == stripped(whole[0].model_dump(mode="json"))
    a, b = (pd.read_parquet(path) for path in sorted(tmp_path.glob("*/out/samples/*.parquet")))
    pd.testing.assert_frame_equal(a, b)
    assert not (broken / "out" / "partial").exists()


def test_damaged_and_outdated_checkpoints_are_made_again(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> dict[str, object]:
        folder.mkdir()
        attack = f"faulty:how=interrupt,after=5,times=1,file={folder / 'calls'}"
        config = {**BASE, "attack": attack, "out": folder / "out", "diagnostics": "off"}
        with pytest.raises(KeyboardInterrupt):
            list(Runner(build(config), toys).run())
        return config

    config = interrupted(tmp_path / "a")
    second = sorted((tmp_path / "a" / "out" / "partial").glob("*/0*"))[1]
    second.write_bytes(second.read_bytes()[:-1] + b"?")
    (record,) = list(Runner(build(config), toys).run())
    assert count(tmp_path / "a") == 8 + 1 + 3  # the interrupted call, the damaged chunk and the two after it
    assert record.n == 24

    config = interrupted(tmp_path / "b")
    monkeypatch.setattr(evaluator, "stamp", lambda registry, device: "other code")
    (again,) = list(Runner(build(config), toys).run())
    assert count(tmp_path / "b") == 8 + 1 + 5
    assert again.metrics == record.metrics


def test_cells_that_have_a_record_are_not_measured_again(toys: Registry, tmp_path: Path) -> None:
    asked = {"attack": f"faulty:file={tmp_path / 'calls'}", "access": ["oblivious", "query"], "diagnostics": "off"}
    first = run(toys, tmp_path / "out", **asked)
    assert [record.status for record in first] == ["ok", "skipped"]
    written, calls = lines(tmp_path / "out"), count(tmp_path)
    board = Board()
    config = {**BASE, **asked, "out": tmp_path / "out"}
    again = list(Runner(build(config), toys, board).run())
    assert again[0] == first[0]
    assert again[1] == first[1].model_copy(update={"created": again[1].created})
    assert board.said == [("grid", 2), ("finished", "done", False), ("finished", "skipped", False)]
    assert (lines(tmp_path / "out"), count(tmp_path)) == (written, calls)
    run(toys, tmp_path / "out", **asked, again=True)
    assert count(tmp_path) == 2 * calls
    assert lines(tmp_path / "out") == [*written, written[0]]
    run(toys, tmp_path / "out", **{**asked, "diagnostics": "cheap"})  # looks at more than the record did
    assert count(tmp_path) > 3 * calls


def test_a_plugin_file_that_was_edited_is_measured_anew(tmp_path: Path, toys: Registry) -> None:
    file, asked = tmp_path / "edited.py", {"attack": f"edited/faulty:file={tmp_path / 'calls'}", "diagnostics": "off"}
    text = (HELPERS / "faulty_plugin.py").read_text()
    file.write_text(text)
    for _ in range(2):
        run(Registry(files=[FILES[0], file]), tmp_path / "out", **asked)
        assert count(tmp_path) == 8
    file.write_text(text.replace("- 0.5", "- 0.6"))
    run(Registry(files=[FILES[0], file]), tmp_path / "out", **asked)
    assert count(tmp_path) == 16


def test_failed_cells_are_tried_again(toys: Registry, tmp_path: Path) -> None:
    attack = f"faulty:how=raise,times=1,file={tmp_path / 'calls'}"
    assert [record.status for record in run(toys, tmp_path / "out", attack=attack)] == ["failed"]
    assert [record.status for record in run(toys, tmp_path / "out", attack=attack)] == ["ok"]


@pytest.mark.long
def test_two_runs_on_one_folder_share_the_cells(toys: Registry, tmp_path: Path) -> None:
    calls, seeds = tmp_path / "calls", [str(seed) for seed in range(6)]
    command = [*COMMAND, "--diagnostics", "off", "--out", str(tmp_path / "out"), "--json"]
    command += ["--attack", f"faulty:seconds=0.05,file={calls}", *(f"--seed={seed}" for seed in seeds)]
    files = [
        tmp_path / "one",
        tmp_path / "other",
    ]  # a full pipe would stop one, which the other waits for
    with ExitStack() as stack:
        both = [stack.enter_context(started(command, stdout=stack.enter_context(file.open("w")))) for file in files]
        assert [process.wait(LIMIT) for process in both] == [0, 0]
    alone = run(toys, tmp_path / "alone", attack="faulty:seconds=0.05", seed=list(range(6)), diagnostics="off")
    for file in files:
        events = [json.loads(line) for line in file.read_text().splitlines()]
        records = [event["record"] for event in events if event["event"] == "record"]
        assert {r["seed"]: r["metrics"] for r in records} == {r.seed: r.metrics for r in alone}
    assert len(lines(tmp_path / "out")) == 6
    assert count(tmp_path) == 6 * 8
    assert not (tmp_path / "out" / "partial").exists()


def test_a_clock_that_goes_backwards_changes_nothing(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, asked = dt.datetime(2030, 1, 1, tzinfo=dt.UTC), {"seed": [0, 1, 2]}

    class Backwards(dt.datetime):
        calls = 0

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            cls.calls += 1
            return start - dt.timedelta(days=cls.calls)

    normal = run(toys, tmp_path / "a", **asked)
    monkeypatch.setattr(evaluator.dt, "datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: 1e9 - 1e6 * Backwards.calls)
    records = run(toys, tmp_path / "b", **asked, time_limit=None)
    assert Backwards.calls >= 3
    assert [r.created for r in records] == sorted((r.created for r in records), reverse=True)
    assert all(r.seconds >= 0 for r in records)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    assert [r.metrics for r in run(toys, tmp_path / "b", **asked)] == [r.metrics for r in normal]
    assert len(lines(tmp_path / "b")) == 3


def test_a_folder_that_cannot_be_written_to_is_named(toys: Registry, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match=r"--out .*out cannot be written"):
        run(toys, tmp_path / "out")


def test_a_full_disk_stops_the_run_and_loses_no_chunk(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = checkpoints.checksummed.write, []

    def full(path: Path, data: bytes, stamp: str, *, sync: bool = False) -> None:
        if sync and len(written) == 3:
            raise OSError(28, "No space left on device")
        if sync:
            written.append(path.name)
        write(path, data, stamp, sync=sync)

    asked = {"attack": f"faulty:file={tmp_path / 'calls'}", "diagnostics": "off"}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.checksummed, "write", full)
        with pytest.raises(StoreError, match="No space left on device; once it can be written to, the same command"):
            run(toys, tmp_path / "out", **asked)
    (record,) = run(toys, tmp_path / "out", **asked)
    assert record.status == "ok"
    assert count(tmp_path) == 8 + 1
