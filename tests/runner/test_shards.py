"""A cell in shards: the record of an undivided run, whoever measures the shards."""

from __future__ import annotations

import itertools
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from helpers.grids import BASE, lines, run
from helpers.paths import HELPERS, TOY
from helpers.processes import started
from hypothesis import given
from hypothesis import strategies as st

from robustbench_med.errors import BadParameter
from robustbench_med.grid.config import build
from robustbench_med.plugins.registry import Registry
from robustbench_med.runner.runner import Runner
from robustbench_med.runner.shards import shares


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 12), st.integers(1, 30), st.booleans())
def test_every_chunk_and_every_control_is_in_one_shard(
    images: list[int], size: int, count: int, controls: bool
) -> None:
    divided = [shares(images, size, (number, count), controls) for number in range(count)]
    for client, total in enumerate(images):
        own = [shard[client] for shard in divided]
        spans = [(share.start, share.stop) for share in own if share.stop > share.start]
        assert [spans[0][0], *(stop for _, stop in spans)] == [*(start for start, _ in spans), total]
        assert all(start % size == 0 for start, _ in spans)  # chunks are those of an undivided run
        assert sum(share.controls for share in own) == controls
    work = [sum(-(-(share.stop - share.start) // size) + share.controls for share in shard) for shard in divided]
    assert max(work) - min(work) <= 1
    assert [(share.start, share.stop, share.controls) for share in shares(images, size, None, controls)] == [
        (0, total, controls) for total in images
    ]


def same(a: Path, b: Path) -> None:
    """Records and results of images are equal."""
    assert lines(a) == lines(b)
    files = [sorted((out / "samples").glob("*.parquet")) for out in (a, b)]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    for one, other in zip(*files, strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(one), pd.read_parquet(other))
    assert not (b / "partial").exists()


@pytest.mark.parametrize("executor", ["local", pytest.param("local:process=true", marks=pytest.mark.long)])
def test_a_cell_in_shards_gives_the_record_of_a_whole_one(toys: Registry, tmp_path: Path, executor: str) -> None:
    options = {"access": ["oblivious", "transfer", "full"], "diagnostics": "full"}
    run(toys, tmp_path / "a", **options)
    run(toys, tmp_path / "b", **options, shards=4, executor=executor)
    same(tmp_path / "a", tmp_path / "b")


def test_more_shards_than_chunks(toys: Registry, tmp_path: Path) -> None:
    run(toys, tmp_path / "a")
    run(toys, tmp_path / "b", shards=100)
    same(tmp_path / "a", tmp_path / "b")


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
@pytest.mark.slow
def test_the_workers_of_ray_share_a_cell(toys: Registry, tmp_path: Path) -> None:
    run(toys, tmp_path / "a")
    run(toys, tmp_path / "b", shards=4, executor="ray:workers=2")
    same(tmp_path / "a", tmp_path / "b")


def test_two_runs_share_a_cell(toys: Registry, tmp_path: Path) -> None:
    run(toys, tmp_path / "a")
    words = itertools.chain.from_iterable(
        (f"--{name.replace('_', '-')}", str(value)) for name, value in {**BASE, "shards": 5}.items() if value
    )
    plugins = ["-p", str(TOY), "-p", str(HELPERS / "faulty_plugin.py")]
    command = [sys.executable, "-m", "robustbench_med", *plugins, "run", *words, "--baseline", "", "--quiet"]
    with started([*command, "--out", str(tmp_path / "b")]) as other:
        run(toys, tmp_path / "b", shards=5)
        other.wait()
    assert other.returncode == 0
    same(tmp_path / "a", tmp_path / "b")


def test_interrupted_shards_resume(toys: Registry, tmp_path: Path) -> None:
    def attack(how: str, folder: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        return f"faulty:how={how},after=6,times=1,file={tmp_path / folder / 'calls'}"

    broken = {**BASE, "attack": attack("interrupt", "b"), "out": tmp_path / "b" / "out", "shards": 3}
    with pytest.raises(KeyboardInterrupt):
        list(Runner(build(broken), toys).run())
    kept = {path.name for path in (tmp_path / "b" / "out" / "partial").glob("*/*")}
    assert "shard-0-of-3" in kept
    assert "shard-2-of-3" not in kept
    before = len((tmp_path / "b" / "calls").read_text())
    (record,) = Runner(build(broken), toys).run()
    whole = run(toys, tmp_path / "a" / "out", attack=attack("well", "a"))
    assert record.metrics == whole[0].metrics
    calls = len((tmp_path / "b" / "calls").read_text())
    assert calls - before < len((tmp_path / "a" / "calls").read_text())


def test_a_shard_that_fails_fails_its_cell_once(toys: Registry, tmp_path: Path) -> None:
    fails = f"faulty:how=raise,after=6,file={tmp_path / 'calls'}"
    records = run(toys, tmp_path / "out", attack=[fails, "shift"], shards=4)
    assert [record.status for record in records] == ["failed", "ok"]
    assert len(lines(tmp_path / "out")) == 2
    assert not (tmp_path / "out" / "partial").exists()


@pytest.mark.parametrize("shards", [0, -1, 10_001, "many"])
def test_a_wrong_number_of_shards_is_one_line(shards: object) -> None:
    with pytest.raises(BadParameter, match="--shards"):
        build({**BASE, "shards": shards})
