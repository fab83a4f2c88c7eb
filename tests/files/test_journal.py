"""Records on disk: whole lines only, whoever writes at the same time, whatever is in the way."""

from __future__ import annotations

import base64
import json
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from helpers.paths import ROOT
from helpers.processes import LIMIT, started
from helpers.records import many, record

from robustbench_med.errors import BadConfig, DataError, StoreError, StoreWarning
from robustbench_med.files import journal, locks
from robustbench_med.files.jsonl import content, is_lines
from robustbench_med.records.folder import open_results
from robustbench_med.records.migration import SCHEMA, migrated
from robustbench_med.records.record import Record, append, dumped, latest, parse, read


def test_many_writers_lose_and_mix_nothing(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=many, args=(file, who, 25)) for who in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(LIMIT)
        assert writer.exitcode == 0
    found = list(read(file))
    assert sorted(r.cell_id for r in found) == sorted(f"{who}{n}" for who in "abc" for n in range(25))
    for who in "abc":  # each in its own order
        assert [r.cell_id for r in found if r.cell_id[0] == who] == [f"{who}{n}" for n in range(25)]
    assert not journal.quarantine_of(file).exists()


def test_a_torn_line_is_set_aside_and_nothing_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    append(file, record())
    torn = dumped(record(cell_id="1")).encode()[:-40]
    with file.open("ab") as handle:
        handle.write(torn)
    with pytest.warns(StoreWarning, match=r"line 2 is not a record .*: skipped"):
        assert [r.cell_id for r in read(file)] == ["0"]
    assert file.read_bytes().endswith(torn)  # reading changes nothing
    with pytest.warns(StoreWarning, match=r"line 2 is not a record .*set aside in .*records\.quarantine\.jsonl"):
        append(file, record(cell_id="2"))
    assert [r.cell_id for r in read(file)] == ["0", "2"]
    (kept,) = map(json.loads, journal.quarantine_of(file).read_text().splitlines())
    assert (kept["line"], kept["text"].encode()) == (2, torn)
    assert "EOF" in kept["reason"]
    append(file, record(cell_id="3"))
    assert len(list(read(file))) == 3


def test_foreign_lines_anywhere_are_set_aside_with_their_bytes(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    foreign = [b"a note", b'{"cell_id": "5"}', b"\xff\xfe\x00", b"[" * 50_000, b'{"schema_version": 4}', b"\0" * 100]
    good = [record(cell_id=str(n)) for n in range(len(foreign))]
    file.write_bytes(b"".join(line + b"\n" + dumped(r).encode() + b"\n" for line, r in zip(foreign, good, strict=True)))
    with pytest.warns(StoreWarning, match=r"line 1 is .*line 3 is .*line 5 is .*and 3 more: set aside"):
        append(file, record(cell_id="9"))
    assert list(read(file)) == [*good, record(cell_id="9")]
    kept = [json.loads(line) for line in journal.quarantine_of(file).read_text().splitlines()]
    assert [
        entry["text"].encode() if "text" in entry else base64.b64decode(entry["base64"]) for entry in kept
    ] == foreign
    assert [entry["line"] for entry in kept] == [1, 3, 5, 7, 9, 11]


def test_foreign_lines_that_arrive_between_two_records_are_found(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    append(file, record(cell_id="0"))
    with file.open("a") as handle:
        handle.write("noise\n" + dumped(record(cell_id="1")) + "\n")
    with pytest.warns(StoreWarning, match="line 2 is not a record"):
        append(file, record(cell_id="2"))
    # Another file in its place, of which nothing was checked yet.
    shutil.copyfile(file, tmp_path / "copy")
    (tmp_path / "copy").write_text("more noise\n" + file.read_text())
    (tmp_path / "copy").replace(file)
    with pytest.warns(StoreWarning, match="line 1 is not a record"):
        append(file, record(cell_id="3"))
    assert [r.cell_id for r in read(file)] == ["0", "1", "2", "3"]


def test_a_whole_record_that_only_lacks_its_line_end_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(dumped(record()))
    append(file, record(cell_id="1"))
    assert [r.cell_id for r in read(file)] == ["0", "1"]
    assert not journal.quarantine_of(file).exists()


def test_the_order_of_lines_counts_not_the_clock(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    append(file, record(n=1, created="2030-01-01T00:00:00+00:00"))
    append(file, record(n=2, created="1999-01-01T00:00:00+00:00"))  # the clock went backwards
    assert [r.n for r in latest(read(file))] == [2]


def test_a_lock_that_is_never_given_up_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LOCK_TIMEOUT", 0.2)
    file = tmp_path / "records.jsonl"
    with FileLock(tmp_path / ".records.jsonl.lock"), pytest.raises(StoreError, match="another process has locked it"):
        append(file, record())
    assert not file.exists()
    append(file, record())


def test_a_reader_waits_for_a_line_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "records.jsonl"
    append(file, record())
    line = dumped(record(cell_id="1")) + "\n"
    script = f"""
import pathlib, sys
from filelock import FileLock
path = pathlib.Path({str(file)!r})
with FileLock(path.with_name(".records.jsonl.lock")), path.open("a") as file:
    file.write({line[:50]!r}); file.flush()
    print("half", flush=True)
    sys.stdin.readline()
    file.write({line[50:]!r})
"""
    with started([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"

        def asks(path: Path) -> FileLock:
            """The writer continues when the reader asks for the lock."""
            writer.stdin.write("\n")
            writer.stdin.flush()
            return FileLock(path)

        monkeypatch.setattr(locks, "FileLock", asks)
        assert [r.cell_id for r in read(file)] == ["0", "1"]  # and no warning


def test_records_of_older_formats_are_read(tmp_path: Path) -> None:
    versions = set()
    for file in sorted(path for path in (ROOT / "leaderboard").glob("**/records/*") if is_lines(path)):
        lines = content(file).splitlines()
        versions |= {json.loads(line)["schema_version"] for line in lines}
        found = list(read(file))
        assert len(found) == len(lines)
        assert {r.schema_version for r in found} == {SCHEMA}
    assert 3 in versions
    # The first format had none of these.
    new = {"budget", "surrogate", "rungs", "diagnostics", "unseen", "between_clients"}
    third = json.loads(content(ROOT / "leaderboard/archive/records/lgg.jsonl.gz").splitlines()[0])
    oldest = {name: value for name, value in third.items() if name not in new} | {"schema_version": 1}
    assert new <= set(migrated(oldest))
    append(tmp_path / "records.jsonl", parse(json.dumps(oldest)))
    assert json.loads((tmp_path / "records.jsonl").read_text())["schema_version"] == SCHEMA


def test_records_of_a_newer_format_are_neither_read_nor_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    newer = json.dumps({"schema_version": SCHEMA + 1, "cell_id": "1", "more": "than we know"})
    file.write_text(newer + "\n")
    for reader in (read, open_results):
        with pytest.raises(BadConfig, match=rf"records\.jsonl: a record of format {SCHEMA + 1} was written by a newer"):
            list(reader(file))
    append(file, record())  # its own run continues
    assert file.read_text().splitlines()[0] == newer
    assert not journal.quarantine_of(file).exists()


def test_a_file_that_is_not_there_or_no_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "no.jsonl", tmp_path):
        with pytest.raises(DataError, match="cannot read the records"):
            read(path)


@pytest.mark.parametrize("name", ["../up", "a/b", "", "a.b", "A", "/etc/passwd", "a\n", "a" * 65])
def test_a_cell_id_is_a_plain_name(name: str) -> None:
    """It names files."""
    facts = {**json.loads(dumped(record())), "cell_id": name}
    with pytest.raises(ValueError, match="cell_id"):
        parse(json.dumps(facts))


def test_infinite_and_undefined_numbers_are_no_record() -> None:
    line = dumped(record(metrics={"x": 0.5}))
    assert parse(line).metrics == {"x": 0.5}
    for bad in ("1e999", "NaN", "-Infinity", '"a"', "[]"):
        with pytest.raises(ValueError, match=r"metrics|expected|JSON|number"):
            parse(line.replace("0.5", bad))
    free = {**record().dataset.model_dump(), "params_passed": {"free": 0.5}}
    with pytest.raises(ValueError, match="JSON"):
        parse(dumped(record(spent={}, dataset=free)).replace("0.5", "1e999"))


def test_appended_is_what_was_given(tmp_path: Path) -> None:
    odd = record(reason='line\nend "quoted" \u2028 \x00'.replace("\x00", ""), clients=["Küste", "東京"])
    append(tmp_path / "records.jsonl", odd)
    (back,) = read(tmp_path / "records.jsonl")
    assert back == odd
    assert isinstance(back, Record)
