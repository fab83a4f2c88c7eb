"""Files of lines, plain and compressed: read everywhere, bounded, written the same on every machine."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.leaderboard import example, folder
from helpers.paths import ROOT
from helpers.records import ladder_record, outcome, record

from robustbench_med.errors import DataError, StoreError
from robustbench_med.files import jsonl
from robustbench_med.files.strict_json import LARGEST
from robustbench_med.leaderboard.add import add
from robustbench_med.leaderboard.archive import archive
from robustbench_med.leaderboard.build import rendered
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.image_results import dumped as dumped_outcome
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.records import read_records
from robustbench_med.records.folder import LARGE, is_large
from robustbench_med.records.record import dumped

LINE = f"{dumped(record())}\n".encode()


def cli(*words: object) -> tuple[int, str]:
    done = invoke(*words)
    return done.exit_code, done.output


def compressed(path: Path) -> Path:
    """The same file, compressed in its place."""
    target = path.with_name(f"{path.name}.gz")
    jsonl.write(target, path.read_bytes())
    path.unlink()
    return target


@pytest.mark.parametrize(
    "command", [("table",), ("table", "--report", "csv"), ("export",), ("diff",), ("report", "--format", "md", "--out")]
)
def test_a_compressed_file_of_records_reads_like_a_plain_one(tmp_path: Path, command: tuple[str, ...]) -> None:
    plain = tmp_path / "r.jsonl"
    plain.write_bytes(f"{dumped(ladder_record('0'))}\n{dumped(ladder_record('1', name='other'))}\n".encode())
    packed = tmp_path / "r.jsonl.gz"
    jsonl.write(packed, plain.read_bytes())
    told = []
    for file in (plain, packed):
        out = [tmp_path / "out.md"] if command[0] == "report" else [plain] if command[0] == "diff" else []
        code, text = cli(command[0], file, *command[1:], *out)
        assert code == 0, text
        text += (tmp_path / "out.md").read_text() if command[0] == "report" else ""
        told.append(text.replace("r.jsonl.gz", "r.jsonl"))
    assert told[0] == told[1]


def test_a_compressed_leaderboard_builds_the_same_pages(tmp_path: Path) -> None:
    example(tmp_path)
    before = rendered(read_sources(tmp_path), tmp_path / "gallery")
    for kind in ("records", "outcomes"):
        compressed(tmp_path / kind / "a.jsonl")
    assert rendered(read_sources(tmp_path), tmp_path / "gallery") == before
    assert cli("leaderboard", "log", "--root", tmp_path)[0] == 0


def bomb() -> bytes:
    return gzip.compress(b"\0" * (LARGEST + 1))


DAMAGED: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb": (bomb, "it is larger than 64 MiB when unpacked"),
    "tiny lines": (lambda: gzip.compress(b"{}\n" * (jsonl.MOST + 1)), "it has more than 100000 lines"),
    "cut off": (lambda: gzip.compress(LINE * 50)[:-20], "it is cut off"),
    "no checksum": (lambda: gzip.compress(LINE)[:-8], "it is cut off"),
    "empty": (lambda: b"", "it is cut off"),
    "another checksum": (lambda: gzip.compress(LINE)[:-8] + b"\1" * 8, "it is damaged, or no gzip file"),
    "plain": (lambda: LINE, "it is damaged, or no gzip file"),
    "two": (lambda: gzip.compress(LINE) + gzip.compress(LINE), "something follows its end"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    make, told = DAMAGED[kind]
    file = tmp_path / "board" / "records" / "r.jsonl.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(make())
    for words in (
        *(("table", file), ("verify", file), ("export", file), ("diff", file, file)),
        ("report", file, "--out", tmp_path / "out.html"),
        ("leaderboard", "verify", file, "--root", tmp_path / "board"),
        ("leaderboard", "build", "--root", tmp_path / "board"),
    ):
        code, text = cli(*words)
        assert code == 2, (words, text)
        last = text.strip().splitlines()[-1]
        assert f"cannot read the records in {file}: {told}" in last, (words, text)
        assert "Traceback" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["board"]
    with pytest.raises(DataError, match=rf"cannot read the outcomes in .*r\.jsonl\.gz: {told}"):
        read_outcomes(file)


def test_a_compressed_file_is_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.jsonl.gz")
    with pytest.raises(DataError, match="it is a device or a pipe"):
        read_records(tmp_path / "r.jsonl.gz")


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "r.jsonl.gz", LINE + b"{}\n")
    with pytest.raises(DataError, match=r"r\.jsonl\.gz: line 2 is not a record"):
        read_records(tmp_path / "r.jsonl.gz")


def test_the_same_lines_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for at, name in enumerate(("a.jsonl.gz", "other.jsonl.gz")):
        monkeypatch.setattr("time.time", lambda at=at: 1e9 * (at + 1))
        jsonl.write(tmp_path / name, LINE * 3)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert made[0][:10] == b"\x1f\x8b\x08\0\0\0\0\0\x02\xff", "no flags, so no name, and no time"
    assert gzip.decompress(made[0]) == LINE * 3


def test_committed_files_are_compressed_whole() -> None:
    files = sorted((ROOT / "leaderboard").glob("**/*.jsonl.gz"))
    assert {path.parts[-3] for path in files} == {"leaderboard", "archive", "measurements", "corruptions", "attacks"}
    for path in files:
        assert path.read_bytes()[3:8] == b"\0" * 5, f"{path} holds a name or a time"
        assert jsonl.content(path).endswith(b"\n")
    for name in ("archive", "measurements", "corruptions", "attacks"):
        assert not list((ROOT / "leaderboard" / name).glob("**/*.jsonl")), "compress it: gzip -9n"


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    jsonl.write(path, LINE)
    for data in (b"\0" * (LARGEST + 1), b"\n" * (jsonl.MOST + 1)):
        with pytest.raises(StoreError, match=r"cannot write .*r\.jsonl\.gz: it .*; choose another name"):
            jsonl.write(path, data)
    assert jsonl.content(path) == LINE
    assert [each.name for each in tmp_path.iterdir()] == ["r.jsonl.gz"]


def test_a_file_is_there_in_one_form(tmp_path: Path) -> None:
    example(tmp_path)
    jsonl.write(tmp_path / "records" / "a.jsonl.gz", LINE)
    with pytest.raises(DataError, match=r"records holds a\.jsonl and a\.jsonl\.gz; keep one of them"):
        read_sources(tmp_path)


def test_a_large_compressed_file_is_known_before_it_is_unpacked(tmp_path: Path) -> None:
    for size, large in ((LARGE, False), (LARGE + 1, True)):
        jsonl.write(tmp_path / "r.jsonl.gz", b" " * size)
        assert is_large(tmp_path / "r.jsonl.gz") == large


@pytest.mark.parametrize(("root", "ending"), [("measurements", ".jsonl.gz"), ("archive", ".jsonl")])
def test_add_fills_a_file_in_the_form_of_its_folder(tmp_path: Path, root: str, ending: str) -> None:
    for at in ("0", "1"):
        (tmp_path / at).mkdir()
        (tmp_path / at / "records.jsonl").write_text(f"{dumped(ladder_record(at))}\n")
        assert add(tmp_path / root, tmp_path / at, "x") == (1, 0)
    assert [path.name for path in (tmp_path / root / "records").iterdir()] == [f"x{ending}"]
    assert [each.cell_id for each in read_records(tmp_path / root / "records" / f"x{ending}")] == ["0", "1"]
    assert add(tmp_path / root, tmp_path / "0") == (0, 0)


def test_a_plain_file_that_is_there_stays_plain(tmp_path: Path) -> None:
    root = folder(tmp_path / "measurements", ladder_record("0"))
    (tmp_path / "records.jsonl").write_text(f"{dumped(ladder_record('1'))}\n")
    add(root, tmp_path, "a")
    assert [path.name for path in (root / "records").iterdir()] == ["a.jsonl"]


def test_archive_adds_to_a_compressed_file_and_takes_from_one(tmp_path: Path) -> None:
    records = [ladder_record(cell) for cell in "012"]
    texts = [f"{dumped_outcome(outcome(each.cell_id, [True] * 8))}\n" for each in records]
    folder(tmp_path, *records, outcomes="".join(texts))
    packed = [compressed(tmp_path / kind / "a.jsonl") for kind in ("records", "outcomes")]
    before = {path: jsonl.content(path).splitlines() for path in packed}
    assert archive(tmp_path, {"0"}) == 1
    assert archive(tmp_path, {"1"}) == 1
    for path in packed:
        moved = tmp_path / "archive" / path.parent.name / "a.jsonl.gz"
        assert jsonl.content(moved).splitlines() == before[path][:2]
        assert jsonl.content(path).splitlines() == before[path][2:]


def test_a_damaged_archive_stops_the_move_and_nothing_is_lost(tmp_path: Path) -> None:
    folder(tmp_path, ladder_record("0"))
    (tmp_path / "outcomes" / "a.jsonl").unlink()
    there = tmp_path / "archive" / "records" / "a.jsonl.gz"
    there.parent.mkdir(parents=True)
    there.write_bytes(gzip.compress(LINE)[:-4])
    with pytest.raises(DataError, match=r"cannot read .*archive/records/a\.jsonl\.gz: it is cut off"):
        archive(tmp_path, {"0"})
    assert there.read_bytes() == gzip.compress(LINE)[:-4]
    (kept,) = (tmp_path / "records" / "a.jsonl").read_text().splitlines()
    assert json.loads(kept)["cell_id"] == "0"


def test_an_interrupted_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.jsonl.gz"
    jsonl.write(path, LINE)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        jsonl.write(path, LINE * 2)
    assert jsonl.content(path) == LINE
    assert [each.name for each in tmp_path.iterdir()] == ["r.jsonl.gz"]
