"""Diff, merge and export of records of the toy plugin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers.first_runs import Run, claim, finished, forged

from robustbench_med.errors import BadParameter, DataError
from robustbench_med.records.compare import pairs
from robustbench_med.records.folder import merge, open_results
from robustbench_med.records.record import Record, read


@pytest.fixture(scope="module")
def rbmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with finished(tmp_path_factory) as run:
        yield run


def test_diff_of_a_folder_with_itself_and_with_a_forged_one(rbmed: Run) -> None:
    done = rbmed("diff", "first", "first")
    assert (done.exit_code, done.stdout) == (0, "4 same\n")

    def worse(facts: dict[str, object]) -> None:
        facts["metrics"]["robust_accuracy"] = 0.0  # type: ignore[index]
        facts["seconds"] = 99.0

    done = rbmed("diff", "first", forged("forged", worse))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0].startswith("differs ")
    assert "robust_accuracy: " in done.stdout
    assert "seconds" not in done.stdout
    assert done.stdout.splitlines()[-1] == "1 differs, 3 same"
    (entry,) = [each for each in json.loads(rbmed("diff", "first", "forged", "--json").stdout) if each["notes"]]
    assert (entry["match"], entry["left"]) == ("differs", claim(Path("first")).cell_id)


def test_diff_finds_the_same_question_under_another_id_and_says_what_is_new(rbmed: Run) -> None:
    def newer(facts: dict[str, object]) -> None:
        facts["cell_id"] = "e" * 16
        facts["defense"]["weights"]["digest"] = "new"  # type: ignore[index]
        facts["attack"]["revision"] = 7  # type: ignore[index]

    done = rbmed("diff", "first", forged("forged", newer))
    assert "weights: digest " in done.stdout
    assert " -> new" in done.stdout
    found = pairs(open_results(Path("first")), open_results(Path("forged")))
    assert [pair.match for pair in found] == ["same"] * 4
    lone = pairs(open_results(Path("first")), open_results(Path("forged"))[:1])
    assert [pair.match for pair in lone] == ["same", "only left", "only left", "only left"]


def test_merge_keeps_records_and_samples_and_verifies(rbmed: Run, tmp_path: Path) -> None:
    target = tmp_path / "merged"
    done = rbmed("merge", "first", "plain", "first", "--out", target)
    assert done.exit_code == 0, done.output
    records = list(read(target / "records.jsonl"))
    assert records == [*open_results(Path("first")), *open_results(Path("plain"))]
    assert {file.stem for file in (target / "samples").iterdir()} == {r.cell_id for r in records if r.status == "ok"}
    assert rbmed("verify", target, "--sample", "1").exit_code == 0


def test_two_results_of_one_cell_are_refused_and_both_named(rbmed: Run, tmp_path: Path) -> None:
    def other(facts: dict[str, object]) -> None:
        facts["metrics"]["robust_accuracy"] = 0.0  # type: ignore[index]

    folder, target = forged("forged", other), tmp_path / "merged"
    done = rbmed("merge", "first", folder, "--out", target)
    assert done.exit_code == 2
    true = claim(Path("first"))
    assert f"robust_accuracy is {true.metrics['robust_accuracy']} in first and 0.0 in forged" in done.stderr
    assert true.cell_id in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_measured_cell_wins_over_a_failed_one(rbmed: Run, tmp_path: Path) -> None:
    def failed(facts: dict[str, object]) -> None:
        facts |= {"status": "failed", "metrics": {}, "intervals": {}, "reason": "torn"}

    folder = forged("failed", failed)
    for at, order in enumerate(((folder, Path("first")), (Path("first"), folder))):
        merged = merge(order, tmp_path / str(at))
        assert all(record.status != "failed" for record in merged)


def test_merge_follows_no_link_and_replaces_nothing(rbmed: Run, tmp_path: Path) -> None:
    folder = forged("linked", lambda facts: None)
    (folder / "samples").mkdir()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "samples" / f"{claim(folder).cell_id}.parquet").symlink_to(secret)
    with pytest.raises(DataError, match="symbolic link"):
        merge([folder], tmp_path / "merged")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadParameter, match="is there already"):
        merge([Path("first")], tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "secret"]


def test_export_as_csv_parquet_and_json_says_the_same(rbmed: Run, tmp_path: Path) -> None:
    text = rbmed("export", "first", "--format", "csv").stdout
    csv = tmp_path / "all.csv"
    csv.write_text(text)
    assert rbmed("export", "first", "plain", "--format", "parquet", "--out", tmp_path / "all.parquet").exit_code == 0
    assert rbmed("export", "first", "--out", tmp_path / "all.json").exit_code == 0, "the name says the format"
    frame, whole = pd.read_csv(csv), json.loads((tmp_path / "all.json").read_text())
    parquet = pd.read_parquet(tmp_path / "all.parquet")
    records = open_results(Path("first"))
    assert [Record.model_validate(each) for each in whole] == records
    robust = [record.metrics.get("robust_accuracy") for record in records if record.status == "ok"]
    for table in (frame, parquet.iloc[: len(records)]):
        assert list(table["cell_id"]) == [record.cell_id for record in records]
        assert list(table["robust_accuracy"].dropna()) == pytest.approx(robust, abs=1e-15)
        assert set(table["weights_digest"]) == {record.defense.weights.digest for record in records}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "all.json", "all.parquet"]
