"""Untrusted input: weights, manifests, records, configurations. Refused with one line; nothing runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command import invoke
from helpers.records import record

from robustbench_med.defenses.artifact import MANIFEST, Artifact, load_state, personal, save_state, seal
from robustbench_med.errors import BadConfig, DataError, UsageError, WeightsError
from robustbench_med.grid.config import build
from robustbench_med.records.record import append, dumped


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path(self.mark).touch, ())


def pickled(mark: Path) -> bytes:
    return pickle.dumps(Bomb(mark))


def torch_saved(mark: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"w": Bomb(mark)}, file)
    return file.getvalue()


def zip_slip(mark: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"../../../../../../../..{mark}", "slipped")
    return file.getvalue()


def zip_bomb(mark: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("classifier.npy", b"\0" * 50_000_000)
    return file.getvalue()


def header(text: bytes, length: int | None = None) -> Callable[[Path], bytes]:
    return lambda mark: struct.pack("<Q", len(text) if length is None else length) + text


HOSTILE = {
    "pickle": pickled,
    "torch": torch_saved,
    "zip slip": zip_slip,
    "zip bomb": zip_bomb,
    "huge header": header(b"{}", 2**62),
    "huge tensor": header(b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'),
    "offsets outside": header(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4096,4100]}}'),
    "negative": header(b'{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'),
    "deep": header(b'{"w":' * 20_000),
    "empty": lambda mark: b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_weights_are_refused_and_never_run(tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "boom"
    file = tmp_path / "classifier.safetensors"
    file.write_bytes(HOSTILE[kind](mark))
    with pytest.raises(WeightsError, match="corrupt or not in safetensors format") as caught:
        load_state(file)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    save_state(folder / "classifier.safetensors", {"w": torch.zeros(3)})
    seal(folder, {"clients": ["a"]})
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../secret", "outside its folder"),
        ("/etc/hostname", "outside its folder"),
        ("clients/../../secret", "outside its folder"),
        ("link", "outside its folder"),
        ("circle", "cannot be read|do not exist"),
        ("a\0b", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        (".", "do not exist"),
        ("pipe", "do not exist"),
    ],
)
def test_a_manifest_cannot_reach_outside_or_hang(artifact: Path, name: str, words: str) -> None:
    (artifact.parent / "secret").write_text("secret")
    (artifact / "link").symlink_to(artifact.parent / "secret")
    (artifact / "circle").symlink_to(artifact / "circle")
    os.mkfifo(artifact / "pipe")
    manifest = json.loads((artifact / MANIFEST).read_text())
    manifest["files"][name] = "0"
    (artifact / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=words) as caught:
        Artifact(artifact)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"files": []}',
        '{"files": {"a": 1}, "clients": []}',
        '{"files": {}}',
        '{"files": {}, "clients": [1]}',
        '{"files": {}, "clients": [], "parts": []}',
        "\xff",
    ],
)
def test_a_manifest_that_is_none_is_one_line(artifact: Path, text: str) -> None:
    (artifact / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match="is unreadable") as caught:
        Artifact(artifact)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("client", ["..", ".", "../../x", "a/b", "a\\b", "a\0"])
def test_a_client_is_no_path(client: str) -> None:
    with pytest.raises(DataError, match="must not be a path"):
        personal("classifier", client)
    assert personal("classifier", "hospital 1..2") == "clients/hospital 1..2"


@pytest.mark.parametrize("out", ["/tmp/x", "../x", "a/../../x", "~/x", "~anna"])
def test_a_configuration_cannot_write_outside_the_current_folder(tmp_path: Path, out: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'out = "{out}"\n')
    with pytest.raises(BadConfig, match="names a folder outside the current one"):
        build({}, file)
    assert build({"out": Path(out)}, file).out == Path(out)  # its user may
    file.write_text('out = "results/x..y"\n')
    assert build({}, file).out == Path("results/x..y")


def test_a_configuration_cannot_write_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive may hold the file and the link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("link").symlink_to(tmp_path / "elsewhere")
    file = Path("run.toml")
    for out in ("link", "link/x"):
        file.write_text(f'out = "{out}"\n')
        with pytest.raises(BadConfig, match="names a folder outside the current one"):
            build({}, file)
    assert build({"out": Path("link")}, file).out == Path("link")


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**30])
def test_a_seed_that_no_record_keeps_is_refused_before_the_run(seed: int) -> None:
    with pytest.raises(UsageError, match="a seed must be"):
        build({"seed": [seed]})
    assert build({"seed": [2**63 - 1]}).seed == (2**63 - 1,)


def rbmed(*args: object) -> tuple[int, str]:
    done = invoke(*args)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("command", ["table", "export", "verify", "merge", "diff"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell_id": "../../secret"}, "cell_id"),
        ({"dataset": {}}, "name"),
        ({"attack": {"name": "a\x1b[2J", "params_passed": {}}}, "name"),
        ({"worst_client": "missing"}, "worst_client"),
        ({"n": 10**30}, "n:"),
        ({"threat": {"norm": "linf", "eps": 1e308, "access": "full"}}, "eps"),
    ],
)
def test_hostile_records_are_passed_over_or_refused(
    tmp_path: Path, command: str, change: dict[str, object], words: str
) -> None:
    (tmp_path / "secret.parquet").write_text("secret")
    folder = tmp_path / "deep" / "results"
    folder.mkdir(parents=True)
    line = json.dumps({**json.loads(dumped(record())), **change})
    (folder / "records.jsonl").write_text(line + "\n")
    more = {"merge": ["--out", tmp_path / "merged"], "diff": [folder]}.get(command, [])
    code, text = rbmed(command, folder, *more)
    assert code == 2
    assert len(text.splitlines()) == 1
    assert "line 1 is not a record" in text
    assert words in text
    append(folder / "good.jsonl", record())
    good = (folder / "good.jsonl").read_text()
    (folder / "records.jsonl").write_text(line + "\n" + good)
    if command == "table":
        code, text = rbmed(command, folder)
        assert code == 0
        assert "warning: " in text
        assert "line 1 is not a record" in text
    assert (tmp_path / "secret.parquet").read_text() == "secret"
    assert not (tmp_path / "merged").exists()


def test_a_file_that_holds_no_records_is_not_changed(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work\n" * 100)
    code, text = rbmed("table", thesis)
    assert (code, len(text.splitlines())) == (2, 1)
    assert thesis.read_text() == "years of work\n" * 100
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("kind", ["pickle", "shape", "bomb", "torn"])
def test_a_hostile_cache_of_images_is_made_anew(tmp_path: Path, kind: str) -> None:
    from rbmed_datasets.cache import read, save

    mark, file = tmp_path / "boom", tmp_path / "images.npz"
    save(file, {"images": np.zeros((2, 3), np.uint8)})
    found = read(file, ["images"])
    assert found is not None
    assert found["images"].shape == (2, 3)
    if kind == "pickle":
        np.savez(file, images=np.array([Bomb(mark)], dtype=object))
    elif kind == "shape":
        shape = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776, 1024), }"
        text = shape.ljust(117) + b"\n"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    elif kind == "bomb":
        np.savez_compressed(file, images=np.zeros((1000, 1000), np.uint8))
        assert file.stat().st_size < 10_000
    else:
        file.write_bytes(file.read_bytes()[:100])
    assert read(file, ["images"]) is None
    assert not mark.exists()
