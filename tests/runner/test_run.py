"""From training to records, with a whole plugin in one file."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from helpers.grids import COMPARED

import robustbench_med as rbmed
from robustbench_med.errors import (
    BadConfig,
    BadParameter,
    DataError,
    DeviceError,
    UnknownName,
    UsageError,
    WeightsError,
)
from robustbench_med.leaderboard.render.page.report import html
from robustbench_med.leaderboard.render.page.report import read as read_report
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import read

BASE = {**COMPARED, "eps": "1/10"}


def run(toys: Registry, tmp_path: Path, **options: object):
    return rbmed.evaluate(registry=toys, out=tmp_path / "out", **{**BASE, **options})


def test_a_first_run_shows_claim_probe_and_why_a_cell_is_skipped(toys: Registry, tmp_path: Path) -> None:
    records = run(toys, tmp_path)
    seen = [(r.defense.name, r.threat.access, r.role, r.status) for r in records]
    assert seen == [
        ("bare", "oblivious", "claim", "ok"),
        ("bare", "ladder", "probe", "skipped"),
        ("guarded", "oblivious", "claim", "ok"),
        ("guarded", "ladder", "probe", "ok"),
    ]
    assert "already sees the whole system" in (records[1].reason or "")
    bare, guarded = records[0], records[2]
    assert bare.metrics["clean_accuracy"] == 1.0
    assert bare.metrics["robust_accuracy"] < 0.5
    assert guarded.metrics["clean_accuracy"] == 1.0
    low, high = bare.intervals["robust_accuracy"]
    assert 0 <= low <= bare.metrics["robust_accuracy"] <= high <= 1
    assert set(bare.per_client) == {"site-0", "site-1"}
    assert bare.worst_client in bare.per_client
    assert guarded.metrics["detector_auroc"] is not None
    assert "detector_auroc" not in bare.metrics
    assert guarded.spent.gradients_max == 1


def test_records_and_samples_are_on_disk_and_agree(toys: Registry, tmp_path: Path) -> None:
    records = run(toys, tmp_path)
    assert list(read(tmp_path / "out" / "records.jsonl")) == records
    for record in records:
        path = tmp_path / "out" / "samples" / f"{record.cell_id}.parquet"
        assert path.is_file() == (record.status == "ok")
        if record.status == "ok":
            frame = pd.read_parquet(path)
            hits = (frame.attacked_prediction == frame.label) | frame.attacked_rejected
            assert hits.groupby(frame.draw).mean().mean() == pytest.approx(record.metrics["robust_accuracy"])
            assert len(frame) == record.n * (record.draws if record.defense.name == "guarded" else 1)
            assert not frame.duplicated(["index", "draw"]).any()


def test_sizes_of_lesions_reach_the_samples_and_the_report(toys: Registry, tmp_path: Path) -> None:
    (record,) = run(toys, tmp_path, dataset="stripes:measured=true", access="oblivious", baseline="")
    frame = pd.read_parquet(tmp_path / "out" / "samples" / f"{record.cell_id}.parquet")
    assert (frame.lesion_radius.notna() == (frame.label == 1)).all()
    text = html(read_report([tmp_path / "out"]))
    assert "By size and contrast of the lesion" in text
    assert "Radius of the lesion, mm" in text
    (plain,) = run(toys, tmp_path / "plain", access="oblivious", baseline="")
    assert plain.metrics == record.metrics
    assert "By size and contrast of the lesion" not in html(read_report([tmp_path / "plain" / "out"]))


def test_same_seed_same_numbers_whatever_the_batch(toys: Registry, tmp_path: Path) -> None:
    one = run(toys, tmp_path / "a", batch_size=1)
    many = run(toys, tmp_path / "b", batch_size=7)
    other = run(toys, tmp_path / "c", seed=1)
    assert [r.metrics for r in one] == [r.metrics for r in many]
    assert [r.cell_id for r in one] == [r.cell_id for r in many]
    assert {r.cell_id for r in one}.isdisjoint(r.cell_id for r in other)


def test_a_failing_cell_is_a_record_and_the_rest_goes_on(toys: Registry, tmp_path: Path) -> None:
    records = run(
        toys, tmp_path, attack=["shift:fail=true", "shift:factor=3", "shift"], access="oblivious", baseline=""
    )
    assert [r.status for r in records] == ["failed", "failed", "ok"]
    assert records[0].reason == "RuntimeError: as asked"
    assert "OutsideThreatModel" in (records[1].reason or "")
    assert len(list(read(tmp_path / "out" / "records.jsonl"))) == 3


def test_limit_takes_clients_in_turn_and_client_picks_one(toys: Registry, tmp_path: Path) -> None:
    (record,) = run(toys, tmp_path, limit=5, access="oblivious", baseline="")
    assert record.n == 5
    assert record.clients == ["site-0", "site-1"]
    (record,) = run(toys, tmp_path, client="site-1", access="oblivious", baseline="")
    assert record.clients == ["site-1"]
    assert record.n == 12


def test_repeated_options_make_a_grid(toys: Registry, tmp_path: Path) -> None:
    records = run(toys, tmp_path, eps=["1/255", "1/10"], seed=[0, 1], access=["oblivious", "bpda"])
    assert len(records) == 2 * 2 * 2 * 2
    assert sum(r.status == "skipped" for r in records) == 4
    small, large = (
        [r.metrics["robust_accuracy"] for r in records if r.status == "ok" and r.threat.eps == eps]
        for eps in (1 / 255, 1 / 10)
    )
    assert all(a >= b for a, b in zip(small, large, strict=True))


def test_toml_has_the_same_keys_and_options_win(toys: Registry, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(
        'dataset = {name = "stripes", test = 10}\ndefense = ["guarded"]\nbaseline = ""\nattack = "shift"\n'
        'eps = "1/100"\naccess = ["oblivious"]\n'
    )
    (record,) = rbmed.evaluate(registry=toys, config=file, out=tmp_path / "out", limit=4, dataset="stripes", seed=3)
    assert (record.n, record.seed, record.threat.eps) == (4, 3, pytest.approx(0.01))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"eps": "0"}, BadParameter, "eps must be > 0"),
        ({"eps": "four"}, BadParameter, "--eps"),
        ({"norm": "l7"}, BadParameter, "valid: linf, l2, l1"),
        ({"access": "ladder:tall"}, UsageError, "unknown ladder 'tall' .*valid: quick, standard, full"),
        ({"evasion": "joint"}, BadParameter, "valid: orthogonal, selective, joint:WEIGHT"),
        ({"evasion": "joint:-1"}, BadParameter, "must be a finite number > 0"),
        ({"goal": "fame"}, BadParameter, "--goal"),
        ({"diagnostics": "some"}, BadParameter, "--diagnostics"),
        ({"max_queries": 0}, BadParameter, "--max-queries"),
        ({"access": "transfer", "surrogate": "undefended"}, WeightsError, "no trained weights"),
        ({"access": "transfer", "surrogate": "missing"}, UnknownName, "unknown defense 'missing'"),
        ({"access": "magic"}, UsageError, "unknown access 'magic'"),
        ({"attack": "shfit"}, UnknownName, "shift"),
        ({"attack": "shift:fator=1"}, BadParameter, "factor"),
        ({"client": "site-9"}, UsageError, "unknown client 'site-9'"),
        ({"device": "cuda:99"}, DeviceError, "does not exist"),
        ({"device": "abacus"}, DeviceError, "unknown device 'abacus'"),
        ({"batch_size": 0}, BadParameter, "batch size"),
        ({"limit": 0}, BadParameter, "--limit"),
        ({"dataset": "stripes:test=25"}, WeightsError, "data or seed .*`rbmed train bare --dataset stripes:test=25`"),
        ({"weights": "/nowhere"}, UsageError, "--weights /nowhere: there is no such file or folder"),
        ({"colour": "red"}, BadParameter, "unknown key 'colour'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    toys: Registry, tmp_path: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        run(toys, tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_unreadable_image_stops_the_run_before_it_begins(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(self: object, name: str) -> None:
        raise DataError(f"file {name}/7.png is not an image")

    monkeypatch.setattr(toys.load("dataset", "stripes"), "split", unreadable)
    with pytest.raises(DataError, match=r"test/7\.png is not an image"):
        run(toys, tmp_path)
    assert not (tmp_path / "out").exists()


def test_bad_toml_is_named(toys: Registry, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text("defense = [")
    with pytest.raises(BadConfig, match=r"grid\.toml is not TOML"):
        rbmed.evaluate(registry=toys, config=file)
    with pytest.raises(BadConfig, match="cannot be read"):
        rbmed.evaluate(registry=toys, config=tmp_path / "missing.toml")


def test_training_is_repeatable_and_described(toys: Registry, tmp_path: Path) -> None:
    first = rbmed.train_defense("guarded", "stripes", registry=toys, out=tmp_path / "a")
    second = rbmed.train_defense("guarded", "stripes", registry=toys, out=tmp_path / "b")
    assert first.digest == second.digest
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["dataset"]["name"] == "stripes"
    assert manifest["clients"] == ["site-0", "site-1"]
    assert set(manifest["files"]) == {"classifier.safetensors", "detector.safetensors"}
    (facts,) = manifest["parts"]["detector"]["metrics"]["rounds"]
    assert 0 < facts["loss"] < 0.01


def test_a_swapped_runtime_parameter_finds_the_same_weights(toys: Registry) -> None:
    a, b = (rbmed.load_defense(f"guarded:fpr={fpr}", "stripes", registry=toys) for fpr in (0.05, 0.5))
    assert a.artifact.folder == b.artifact.folder
    gates = [d.pipeline("site-0").gate for d in (a, b)]
    assert gates[0].threshold > gates[1].threshold
