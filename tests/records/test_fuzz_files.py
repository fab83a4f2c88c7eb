"""Fuzzing of what is read from disk: a clear error or a valid reading, never a traceback, a hang or a stray file.

A few cases run each time. The long run::

    FUZZ_CASES=10000 pytest tests/records/test_fuzz_files.py
"""

from __future__ import annotations

import copy
import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fuzz import FUZZ, JSON, LEAVES, mutated, nothing_written, refused
from helpers.paths import ROOT
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from robustbench_med.cli.tables import clients as between
from robustbench_med.cli.tables import records
from robustbench_med.cli.tables.explanation import explain
from robustbench_med.defenses.artifact import MANIFEST, Artifact, save_state, seal
from robustbench_med.errors import BadConfig, UsageError, WeightsError
from robustbench_med.files import journal
from robustbench_med.grid.config import RunConfig, build
from robustbench_med.leaderboard.build import rendered
from robustbench_med.leaderboard.sources.claims import Publications
from robustbench_med.leaderboard.sources.folder import Sources
from robustbench_med.records.compare import pairs
from robustbench_med.records.export import frame_of, kept_as, parts
from robustbench_med.records.record import Record, append, dumped, parse, read
from robustbench_med.records.rerun import command, request
from robustbench_med.records.sections.defense import FederationSection


def shipped() -> list[dict[str, Any]]:
    """A record of each kind and format that there is."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for file in sorted((ROOT / "leaderboard" / "records").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            facts = json.loads(line)
            kind = (facts["schema_version"], facts["role"], facts["status"], facts["attack"]["name"])
            found.setdefault(kind, facts)
    for facts in list(found.values()):  # of today, with what was asked
        asked = {
            "access": "oblivious",
            "attack": "apgd",
            "evasion": None,
            "stand_in": "identity",
            "surrogate": None,
            "eot": 4,
        }
        facts = copy.deepcopy({**facts, "schema_version": 4})
        facts["dataset"]["asked"] = {"dataset": "brainsim", "partition": None, "unseen_site": [], "client": []}
        facts["attack"]["asked"] = asked
        found[(4, len(found))] = facts
    return list(found.values())


SHIPPED = shipped()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")


def used(record: Record) -> None:
    """Everything that is done with records that were read."""
    both = [record, record]
    console = Console(width=80, file=io.StringIO())
    console.print(records.show(both))
    if (clients := between.show(both)) is not None:
        console.print(clients)
    if (ladder := records.ladder(record)) is not None:
        console.print(ladder)
    for lines in (
        records.unseen(both),
        records.unmeasured(both),
        records.warnings(both),
        records.left_out(record),
    ):
        list(lines)
    list(explain(both, Path("samples")))
    frame_of(list(map(kept_as("parquet"), both))).to_parquet(io.BytesIO())
    for form in ("csv", "json"):
        assert "".join(parts(list(map(kept_as(form), both)), form))
    assert [pair.match for pair in pairs([record], [record])] == ["same"]
    rendered(Sources({"a.jsonl": both}, {}, Publications()))
    with refused(UsageError):
        assert isinstance(build(request(record)), RunConfig)
    with refused(BadConfig):
        assert command(record).startswith("rbmed run ")


@FUZZ
@given(facts=mutated(SHIPPED))
def test_records(facts: dict[str, Any]) -> None:
    record = None
    with nothing_written():
        with refused(ValueError, BadConfig):
            record = parse(json.dumps(facts))
        if record is not None:
            assert parse(dumped(record)) == record
            used(record)


@FUZZ
@given(line=st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | JSON.map(json.dumps).map(str.encode))
def test_lines(line: bytes) -> None:
    with pytest.raises((ValueError, BadConfig)):
        parse(line)


GOOD = [dumped(parse(json.dumps(facts))).encode() for facts in SHIPPED[:3]]
LINES = st.lists(
    st.sampled_from(GOOD)
    | st.sampled_from(GOOD).flatmap(lambda line: st.integers(1, len(line) - 1).map(lambda n: line[:n]))
    | st.binary(min_size=1, max_size=30),
    max_size=5,
)


@FUZZ
@given(lines=LINES, ended=st.booleans())
def test_files_of_records_lose_nothing(lines: list[bytes], ended: bool) -> None:
    with tempfile.TemporaryDirectory(dir=".") as name:
        file = Path(name) / "records.jsonl"
        file.write_bytes(b"\n".join(lines) + b"\n" * ended)
        given = [line for line in file.read_bytes().split(b"\n") if line.strip()]
        good, bad = [line for line in given if line in GOOD], [line for line in given if line not in GOOD]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert [dumped(record).encode() for record in read(file)] == good
            append(file, parse(GOOD[0]))
            assert [dumped(record).encode() for record in read(file)] == [*good, GOOD[0]]
        assert len(said) == (2 if bad else 0)  # as they are passed over, and as they are set aside
        aside = journal.quarantine_of(file)
        kept = [json.loads(line) for line in aside.read_text().splitlines()] if aside.exists() else []
        assert len(kept) == len(bad)
        names = {"records.jsonl", ".records.jsonl.lock"} | ({aside.name} if bad else set())
        assert {path.name for path in Path(name).iterdir()} == names


def manifests() -> list[dict[str, Any]]:
    """Manifests that ship with plugins, the digests of files made up here in place of theirs."""
    files = sorted(ROOT.glob("plugins/*/rbmed_*/weights/*/manifest.json"))
    assert files
    found = [{**json.loads(file.read_text()), "files": {}} for file in files]
    for facts in found:  # a round tells as much as all of them
        facts["parts"] = {
            name: {**part, "metrics": part["metrics"][:1] if isinstance(part["metrics"], list) else part["metrics"]}
            for name, part in facts["parts"].items()
        }
    return found


@FUZZ
@given(facts=mutated(manifests()), files=st.dictionaries(st.text(max_size=9) | LEAVES.map(str), LEAVES, max_size=2))
def test_manifests(facts: dict[str, Any], files: dict[str, Any]) -> None:
    with nothing_written(Path.cwd() / "artifact"):
        folder = Path("artifact")
        save_state(folder / "classifier.safetensors", {"w": torch.zeros(2)})
        seal(folder, {"clients": []})
        own = json.loads((folder / MANIFEST).read_text())["files"]
        if isinstance(facts.get("files"), dict):
            facts["files"] = {**facts["files"], **own, **files}
        (folder / MANIFEST).write_text(json.dumps(facts))
        with refused(WeightsError):
            artifact = Artifact(folder)
            assert artifact.files("classifier") == ["classifier.safetensors"]
            assert set(artifact.state("classifier")) == {"w"}
            assert len(artifact.digest) == 32
            assert all(isinstance(client, str) for client in artifact.clients)
            FederationSection.of(artifact.manifest)
