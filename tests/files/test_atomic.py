"""Files are written completely or not at all: links, full disks, folders that cannot be written, interruptions."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.outcomes import outcome
from helpers.paths import ROOT
from helpers.processes import run
from helpers.records import many, record

from robustbench_med.errors import BadParameter, StoreError
from robustbench_med.files.atomic import check_file, check_writable, new_folder, replacing, write_text
from robustbench_med.records.record import append, read


@pytest.mark.parametrize("name", ["records.jsonl", "records.quarantine.jsonl"])
def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(secret)
    with pytest.raises(StoreError, match="is a symbolic link"):
        append(tmp_path / "out" / "records.jsonl", record())
    assert secret.read_text() == "secret\n"


def test_a_link_in_place_of_the_samples_folder_is_refused(tmp_path: Path) -> None:
    from robustbench_med.records import samples

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "samples").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a symbolic link"):
        samples.write(outcome(), tmp_path / "samples" / "a.parquet")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (tmp_path / "link").is_symlink()


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 38.5 kB, as on a disk that is almost full; nor may pytest's own log until this ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (38_500, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_whole_lines_only(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    with small_files(), pytest.raises(StoreError, match=r"cannot write .*records\.jsonl: File too large"):
        many(file, "a", 100)
    found = [r.cell_id for r in read(file)]
    assert found == [f"a{n}" for n in range(len(found))]
    assert 3 < len(found) < 8
    assert file.read_bytes().endswith(b"\n")
    with small_files():
        append(file, record(cell_id="small"))  # what fits still goes in
    with small_files(), pytest.raises(StoreError, match="File too large"):
        write_text(tmp_path / "text", "x" * 100_000)
    assert {path.name for path in tmp_path.iterdir()} == {"records.jsonl", ".records.jsonl.lock"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a small tmpfs, in a process of its own because the mount is private to it."""
    script = f"""
import subprocess, sys, pathlib
sys.path.insert(0, {str(ROOT / "tests")!r})
from helpers.records import many, record
from helpers.outcomes import outcome
from robustbench_med.records import samples
from robustbench_med.errors import StoreError
from robustbench_med.records.record import append, read
disk = pathlib.Path({str(tmp_path)!r})
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]).returncode:
    sys.exit(77)
file = disk / "out" / "records.jsonl"
for n in range(3):
    try:
        many(file, "abc"[n], 100)
        sys.exit("the disk is not full")
    except StoreError as error:
        assert "No space left on device" in str(error), error
        assert len(str(error).splitlines()) == 1
found = [r.cell_id for r in read(file)]
assert found == [f"a{{n}}" for n in range(len(found))] and len(found) > 3, found
assert file.read_bytes().endswith(b"\\n")
try:
    samples.write(outcome(), disk / "out" / "samples" / "a.parquet")
    sys.exit("the disk is not full")
except StoreError as error:
    assert "No space left" in str(error)
left = sorted(path.name for path in disk.rglob("*"))
assert left == [".records.jsonl.lock", "out", "records.jsonl", "samples"], left
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
try:
    append(file, record())
    sys.exit("the disk is writable")
except StoreError as error:
    assert "Read-only file system" in str(error), error
assert len(list(read(file))) == len(found)
subprocess.run(["mount", "-o", "remount,rw,size=1m", str(disk)], check=True)
append(file, record(cell_id="after"))
assert [r.cell_id for r in read(file)] == [*found, "after"]
"""
    if shutil.which("unshare") is None:
        pytest.skip("no private mounts here")
    done = run(["unshare", "-m", sys.executable, "-c", script], check=False)
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("no private mounts here")
    assert done.returncode == 0, done.stderr


def test_places_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "out", tmp_path / "file"):
        with pytest.raises(StoreError, match=r"cannot write .*file"):
            append(place / "records.jsonl", record())
        with pytest.raises(BadParameter, match="Not a directory"):
            check_writable(place)
        with pytest.raises(BadParameter, match="Not a directory"):
            check_file(place / "report.html")
    with pytest.raises(BadParameter, match="is a folder; name a file"):
        check_file(tmp_path)
    for name in ("a" * 300, "é" * 200):
        with pytest.raises(BadParameter, match="File name too long"):
            check_file(tmp_path / name)
    with pytest.raises(BadParameter, match="no regular file"):
        check_file(Path(os.devnull))
    check_file(tmp_path / "file")
    check_file(tmp_path / "new" / "report.html")
    check_writable(tmp_path / "new" / "deep")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    if os.geteuid() != 0:
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(BadParameter, match="Permission denied"):
            check_writable(tmp_path / "shut")


def test_an_interrupted_replacement_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def interrupted() -> None:
        with replacing(tmp_path / "a") as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_two_that_make_one_folder_at_once_leave_one_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as first:
        (first / "one").touch()
        with new_folder(tmp_path / "a") as second:
            (second / "two").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["one"]
