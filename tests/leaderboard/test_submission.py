"""Submissions: a ladder of the toys, submitted, checked, built, verified, and lowered by images of others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from helpers import trained_toys
from helpers.command import invoke, own_folder
from helpers.paths import ROOT, TOY
from helpers.records import ladder_record, outcome
from safetensors.torch import save_file

from robustbench_med.errors import BadParameter, DataError
from robustbench_med.leaderboard.add import add
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.ranking.history import events
from robustbench_med.leaderboard.sources import evidence
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.image_results import dumped as kept
from robustbench_med.leaderboard.sources.submission import Submission, read, review, write
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record, dumped
from robustbench_med.reproduction.verify import Verifier

PAPER = ("--paper", "https://example.org/guard", "--cite", "Guard 2026")
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def rbmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """``rbmed -p toy_plugin.py ...`` in a folder of its own; ``results`` holds ladders, ``board`` their leaderboard."""
    with own_folder(tmp_path_factory):
        call = partial(invoke, "-p", TOY)
        trained_toys.place()
        options = "--dataset stripes --surrogate bare --eps 1/50 --access ladder:standard --draws 3"
        cell = (*options.split(), "--baseline", "")
        for defense in ("guarded", "bare"):
            done = call("run", "--defense", defense, *cell, "--out", "results")
            assert done.exit_code == 0, done.output
        done = call("leaderboard", "add", "results", "--root", "board", "--name", "toys")
        assert done.exit_code == 0, done.output
        yield call


def test_results_become_a_file_that_is_taken_and_shown(rbmed: Run) -> None:
    done = rbmed("submit", "results", "--defense", "guarded", *PAPER, "--root", "empty", "--out", "made")
    assert done.exit_code == 0, done.output
    text = Path("made/pull-request.md").read_text()
    assert "leaderboard/submissions/guarded.json" in text
    assert "| guarded |" in text
    root = Path("fresh")
    assert rbmed("leaderboard", "add", "results", "--root", root, "--name", "other").exit_code == 0
    lines = (root / "records" / "other.jsonl").read_text().splitlines()
    (root / "records" / "other.jsonl").write_text("".join(f"{line}\n" for line in lines if '"bare"' in line[:900]))
    (root / "submissions").mkdir()
    shutil.copy("made/guarded.json", root / "submissions")
    done = rbmed("leaderboard", "check", root / "submissions" / "guarded.json", "--root", root)
    assert (done.exit_code, "1 cell of guarded is accepted" in done.output) == (0, True), done.output
    assert rbmed("leaderboard", "build", "--root", root).exit_code == 0
    assert "submitted as guarded, and not verified by a maintainer yet" in (root / "README.md").read_text()
    done = rbmed(
        *("leaderboard", "verify", root / "submissions" / "guarded.json", "--sample", "1", "--root", root),
        *("--accept", "A. Maintainer", "--why", "the same figures here"),
    )
    assert (done.exit_code, "1 of 1 cell is verified" in done.output) == (0, True), done.output
    assert rbmed("leaderboard", "build", "--root", root).exit_code == 0
    assert "[Guard 2026](https://example.org/guard)" in (root / "README.md").read_text()


def test_what_is_there_already_is_refused(rbmed: Run) -> None:
    done = rbmed("submit", "results", "--defense", "guarded", *PAPER, "--root", "board", "--out", "again")
    assert done.exit_code == 1
    assert "is on the leaderboard already" in done.output
    assert not Path("again").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--defense", "missing", *PAPER), "holds no measured cell of 'missing'; of: bare, guarded"),
        (("--defense", "guarded:fpr=0.9", *PAPER), "holds no measured cell of 'guarded:fpr=0.9'; of: bare, guarded"),
        (("--defense", "guarded", "--paper", "javascript:alert(1)"), "give the address of a page"),
        (("--defense", "guarded", *PAPER, "--name", "../x"), "use small letters"),
    ],
)
def test_a_wrong_request_is_one_line(rbmed: Run, options: tuple[str, ...], message: str) -> None:
    done = rbmed("submit", "results", *options, "--root", "empty")
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.splitlines()) == 1


def edited(change: Callable[[dict[str, Any]], None]) -> Submission:
    """A good submission of a made-up cell, changed."""
    asked = {
        "attack": ladder_record().attack.model_dump() | {"asked": {"access": "ladder"}},
        "dataset": ladder_record().dataset.model_dump() | {"asked": {"dataset": "d"}},
        "provenance": {"versions": {"torch": "2"}},
    }
    facts = ladder_record("0", [True] * 8, **asked).model_dump(mode="json")
    change(facts)
    record = Record.model_validate(facts)
    return Submission("f", "f", Paper("F", "https://example.org"), "", (record,), {"0": outcome("0", [True] * 8)})


def test_a_whole_submission_is_not_refused_and_comes_back_from_its_file(tmp_path: Path) -> None:
    made = edited(lambda facts: None)
    assert review(made, {}).refused == ()
    write(tmp_path / "f.json", made)
    again = read(tmp_path / "f.json")
    assert (again.records, again.paper, review(again, {})) == (made.records, made.paper, review(made, {}))
    write(tmp_path / "g.json", made)
    with pytest.raises(DataError, match=r"g\.json is no submission: it calls itself 'f'"):
        read(tmp_path / "g.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts: facts["rungs"].pop(), "the rung gate is not accounted for"),
        (lambda facts: facts["dataset"].pop("digest"), "no digest of the data set"),
        (lambda facts: facts["defense"]["weights"].pop("digest"), "no digest of the weights"),
        (lambda facts: facts["attack"].pop("asked"), "cannot be run again"),
        (lambda facts: facts["defense"].update(name="g"), "is of 'g', not of 'f'"),
        (lambda facts: facts["metrics"].update(robust_accuracy=0.5), "robust_accuracy"),
        (lambda facts: facts["diagnostics"].update(flags=["survives-huge-eps"]), "a control failed"),
        (lambda facts: facts.update(status="failed", reason="nan"), "the measurement failed: nan"),
        (lambda facts: facts.update(cell_id="1"), "the results of each image are missing"),
        (lambda facts: facts["attack"].update(name="apgd"), "no ladder was run"),
    ],
)
def test_what_is_not_whole_is_refused_with_the_reason(change: Callable[[dict[str, Any]], None], reason: str) -> None:
    assert any(reason in each for each in review(edited(change), {}).refused)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "\xff", '{"format": 1, "name": "x", "defense": 1}'])
def test_a_file_that_is_no_submission_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"x\.json is no submission: [^\n]+$"):
        read(tmp_path / "x.json")


def images_of(rbmed: Run, record: Record, how: str) -> Path:
    """Adversarial images against a record: the clean ones moved towards grey, or left as they are, or too far."""
    dataset, _ = Verifier(Registry(files=[TOY]), "cpu").opened(record)
    test = dataset.split("test")
    index = torch.tensor(sorted({0, 1, 2, 3}))
    clean = test.images[index]
    right = torch.arange(8) >= 4
    towards = torch.where((test.labels[index] == 1)[:, None, None, None], ~right, right) * 2.0 - 1.0
    step = {"near": 0.02, "far": 0.1}[how]
    save_file({"index": index, "images": (clean + step * towards).clamp(0, 1)}, f"{how}.safetensors")
    return Path(f"{how}.safetensors")


def test_images_of_others_are_scored_again_and_the_best_attack_wins(rbmed: Run) -> None:
    record = next(each for each in read_sources(Path("board")).records if each.defense.name == "bare")
    file = images_of(rbmed, record, "near")
    made = (
        "--cell",
        record.cell_id,
        "--name",
        "near",
        "--attack",
        "towards the other class",
        *PAPER,
        "--root",
        "board",
    )
    done = rbmed("leaderboard", "rescore", file, *made, "--out", "made")
    assert done.exit_code == 0, done.output
    found = evidence.read(Path("made/near.json"))
    assert found.outcome.index == (0, 1, 2, 3)
    assert rbmed("leaderboard", "check", "made/near.json", "--root", "board").exit_code == 0
    done = rbmed("leaderboard", "verify", "made/near.json", "--images", file, "--root", "board")
    assert (done.exit_code, "all predictions are the same" in done.output) == (0, True), done.output
    facts = json.loads(Path("made/near.json").read_text())
    facts["outcome"]["attacked"] = ["".join("1" if char == "0" else "0" for char in facts["outcome"]["attacked"][0])]
    Path("made/near.json").write_text(json.dumps(facts))
    assert rbmed("leaderboard", "verify", "made/near.json", "--images", file, "--root", "board").exit_code == 1


def test_images_outside_the_threat_model_are_refused(rbmed: Run) -> None:
    record = next(each for each in read_sources(Path("board")).records if each.defense.name == "bare")
    file = images_of(rbmed, record, "far")
    done = rbmed(
        "leaderboard",
        "rescore",
        file,
        "--cell",
        record.cell_id,
        "--name",
        "far",
        "--attack",
        "x",
        *PAPER,
        "--root",
        "board",
    )
    assert (done.exit_code, "lies 0.1 away" in done.output) == (2, True), done.output


def test_evidence_lowers_a_row_and_says_so() -> None:
    safe, broken = [True] * 8, [False] * 3 + [True] * 5
    answers = outcome("0", broken)
    against = evidence.Evidence("e", "0", "sharper", Paper("E 2026", "https://e.org"), "0" * 64, answers, answers)
    (board,) = boards([ladder_record("0", safe)], {"0": outcome("0", safe)}, None, [against])
    (entry,) = board.entries
    assert entry.worst is not None
    assert (entry.worst.value, entry.lowered) == (5 / 8, ("sharper (E 2026): 3 more",))


def test_history_keeps_what_was_superseded() -> None:
    old, new = ladder_record("0"), ladder_record("1", created="2026-02-01T00:00:00")
    first, second = events({"a": [old], "b": [new]})
    assert (first.record, first.after, first.file, second.before, second.after) == (old, new, "a", old, None)


def test_a_submission_that_is_committed_can_be_taken() -> None:
    root = ROOT / "leaderboard"
    sources = read_sources(root)  # reads evidence too
    shared = {record.dataset.digest for record in sources.records if record.dataset.name != "imagefolder"}
    assert shared <= sources.splits.keys(), "labels and patients come from the data set, never from the file"
    for file in sorted((root / "submissions").glob("*.json")):
        others = {name: records for name, records in sources.files.items() if name != f"submissions/{file.name}"}
        there = {record.cell_id: record for records in others.values() for record in records}
        assert review(read(file), there).refused == (), file


def test_the_log_names_what_took_the_place_of_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustbench_med.cli.console.out.width", 160)  # else a line may be folded
    (tmp_path / "records").mkdir()
    old, new = ladder_record("aaaa"), ladder_record("bbbb", created="2026-02-01T00:00:00")
    (tmp_path / "records" / "x.jsonl").write_text(f"{dumped(old)}\n{dumped(new)}\n")
    found = invoke("leaderboard", "log", "--root", tmp_path)
    assert "superseded by bbbb" in found.output
    assert "counts" in found.output
    only = invoke("leaderboard", "log", "--root", tmp_path, "--superseded")
    assert "2026-02-01" not in only.output


def test_the_same_cell_with_other_results_is_not_added(tmp_path: Path) -> None:
    for folder, share in (("measurements/records", [True] * 8), ("out", [False] * 8)):
        (tmp_path / folder).mkdir(parents=True)
        name = "records.jsonl" if folder == "out" else "x.jsonl"
        (tmp_path / folder / name).write_text(f"{dumped(ladder_record('0', share))}\n")
    with pytest.raises(DataError, match=r"cell 0 of .* is in x\.jsonl with other results; records are not edited"):
        add(tmp_path / "measurements", tmp_path / "out", "y")
    (tmp_path / "measurements" / "records" / "x.jsonl").write_text(f"{dumped(ladder_record('1'))}\n")
    with pytest.raises(BadParameter, match="--name NAME"):
        add(tmp_path / "measurements", tmp_path / "out")
    assert add(tmp_path / "measurements", tmp_path / "out", "x") == (1, 0)
    assert len((tmp_path / "measurements" / "records" / "x.jsonl").read_text().splitlines()) == 2


def test_outcomes_that_do_not_give_the_record_stop_the_build(tmp_path: Path) -> None:
    for folder, text in (
        ("records", dumped(ladder_record("0", [True] * 8))),
        ("outcomes", kept(outcome("0", [False] * 8))),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jsonl").write_text(f"{text}\n")
    with pytest.raises(
        DataError, match=r"8 images give robust_accuracy 0\.000000, the record of cell 0 says 1\.0 of 8"
    ):
        read_sources(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "images_sha256": "0"}', '{"images_sha256": 1, "format": 2}'])
def test_a_file_that_is_no_evidence_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json is no evidence: [^\n]+$"):
        evidence.read(tmp_path / "x.json")
