"""Cheating that no single record shows: by further files, by options of the run, and by what is put together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.leaderboard import folder
from helpers.paths import ROOT
from helpers.records import ladder_record, outcome
from safetensors.torch import save_file

from robustbench_med.errors import AmbiguousName, DataError, OutsideThreatModel
from robustbench_med.grid.ladder import PRESETS
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.leaderboard.entry import Entry, Paper
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.sources import submission, test_split, verified
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.image_results import ImageResults, dumped
from robustbench_med.leaderboard.sources.records import read_outcomes
from robustbench_med.leaderboard.sources.submission import Submission
from robustbench_med.leaderboard.sources.test_split import TestSplit, named
from robustbench_med.leaderboard.sources.verified import Word, digest_of_cell
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import DefenseSpec
from robustbench_med.records.record import Record
from robustbench_med.reproduction.rescore import read_images

SAFE, MORE = [True, False] * 8, [True] * 16
PAPER = Paper("P 2026", "https://example.org")
EPS = 4 / 255
SPLIT = TestSplit(
    "d", "abc", "", "0" * 16, tuple(map(str, range(8))) * 2, ("a", "b") * 8, ("no", "yes"), 1, True, "CC0"
)


def entries(*records: Record, kept: dict[str, ImageResults] | None = None) -> dict[str, Entry]:
    """By the first cell of each."""
    made = boards(records, kept)
    return {entry.records[0].cell_id: entry for board in made for entry in board.entries}


def asked(**options: object) -> dict[str, Any]:
    """The attack of a ladder that was requested with these options."""
    facts = ladder_record().attack.model_dump(mode="json")
    return {**facts, "asked": {"access": "ladder", "attack": "ladder", "evasion": None, "surrogate": None, **options}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A leaderboard with a row of ours, the test split of its data set, and a submission of another system."""
    made = folder(tmp_path, ladder_record("0", SAFE), outcomes=dumped(outcome("0", SAFE)) + "\n")
    test_split.write(made / "splits" / named(SPLIT), SPLIT)
    theirs = Submission("theirs", "g", PAPER, "", (ladder_record("1", MORE, name="g"),), {"1": outcome("1", MORE)})
    submission.write(made / "submissions" / "theirs.json", theirs)
    return made


# --- further files that take the place of published ones ---


def another_split(root: Path) -> None:
    """Each image is said to be of another patient, so that intervals are narrow."""
    forged = replace(SPLIT, patients=tuple(map(str, range(16))))
    test_split.write(root / "splits" / "zz.json", forged)


def an_edited_digest(root: Path) -> None:
    """Labels of its own for a data set that is on no board."""
    (file,) = (root / "splits").glob("*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"digest": "abd" + "0" * 5}))


def other_answers(root: Path) -> None:
    """The same accuracy on other images, which decides ranks."""
    (root / "outcomes" / "zz.jsonl").write_text(dumped(outcome("0", SAFE[::-1])))


def other_answers_in_the_file(root: Path) -> None:
    with (root / "outcomes" / "a.jsonl").open("a") as file:
        file.write(dumped(outcome("0", SAFE[::-1])))


def a_cell_of_ours(root: Path) -> None:
    file = root / "submissions" / "again.json"
    submission.write(file, Submission("again", "f", PAPER, "", (ladder_record("0", MORE),), {"0": outcome("0", MORE)}))


def a_cell_of_another_submission(root: Path) -> None:
    text = (root / "submissions" / "theirs.json").read_text()
    (root / "submissions" / "other.json").write_text(text.replace('"name": "theirs"', '"name": "other"'))


def records_twice(root: Path) -> None:
    """Our cell once more, with another result, in a file that sorts later."""
    other = folder(root / "x", ladder_record("0", MORE, created="2026-05-01T00:00"))
    shutil.copy(other / "records" / "a.jsonl", root / "records" / "zz.jsonl")


def other_options(root: Path) -> None:
    """Our cell once more, with its results, on a board of its own."""
    threat = ladder_record().threat.model_dump(mode="json") | {"eps": 16 / 255}
    other = folder(root / "x", ladder_record("0", SAFE, threat=threat, created="2026-05-01T00:00"))
    shutil.copy(other / "records" / "a.jsonl", root / "records" / "zz.jsonl")


def a_fold_of_its_own(root: Path) -> None:
    """The record says that it is one of three folds; its data set is a single split."""
    data = ladder_record().dataset.model_dump(mode="json") | {"fold": {"number": 0, "of": 3, "pool": "p"}}
    other = folder(root / "x", ladder_record("2", SAFE, name="h", dataset=data))
    shutil.copy(other / "records" / "a.jsonl", root / "records" / "zz.jsonl")


def more_images_than_there_are(root: Path) -> None:
    safe = [True] * 20
    other = folder(root / "x", ladder_record("2", safe, name="h"), outcomes=dumped(outcome("2", safe)))
    for kind in ("records", "outcomes"):
        shutil.copy(other / kind / "a.jsonl", root / kind / "zz.jsonl")


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "another split of the data set": (another_split, "whose file is called"),
    "a split with an edited digest": (an_edited_digest, "whose file is called"),
    "other answers of a cell, in a further file": (other_answers, "cell 0 is there twice with other answers"),
    "other answers of a cell, in the same file": (other_answers_in_the_file, "cell 0 is there twice"),
    "a cell of ours": (a_cell_of_ours, "cell 0 is there already"),
    "a cell of another submission": (a_cell_of_another_submission, "cell 1 is there already"),
    "a cell with another result": (records_twice, "the record of cell 0 says 1.0"),
    "a cell with other options": (other_options, r"cell 0 is there twice with other options \(threat\.eps\)"),
    "a fold of a single split": (a_fold_of_its_own, "is said to be of fold 0 of 3"),
    "more images than there are": (more_images_than_there_are, "has image 19; there are 16"),
}


def test_the_folder_is_taken_as_it_is(root: Path) -> None:
    (board,) = read_sources(root).boards()
    assert {entry.records[0].cell_id for entry in board.entries} == {"0", "1"}


@pytest.mark.parametrize(("forge", "told"), FILES.values(), ids=FILES)
def test_a_further_file_takes_the_place_of_none(root: Path, forge: Callable[[Path], None], told: str) -> None:
    forge(root)
    with pytest.raises(DataError, match=told) as caught:
        read_sources(root)
    assert "\n" not in str(caught.value)


def test_the_same_answers_twice_are_no_fault(root: Path) -> None:
    shutil.copy(root / "outcomes" / "a.jsonl", root / "outcomes" / "zz.jsonl")
    assert len(read_outcomes(sorted((root / "outcomes").glob("*.jsonl")))) == 1
    read_sources(root)


def test_answers_of_a_study_are_not_replaced(root: Path) -> None:
    shutil.copytree(ROOT / "leaderboard" / "certified", root / "certified")
    kept = root / "certified" / "outcomes"
    line = json.loads((kept / "brainsim.jsonl").read_text().splitlines()[0])
    line["attacked"] = [each[::-1] for each in line["attacked"]]
    (kept / "zz.jsonl").write_text(json.dumps(line))
    with pytest.raises(DataError, match="is there twice with other answers"):
        read_sources(root)


def test_a_word_does_not_hold_for_other_answers(root: Path) -> None:
    """Verified, and then other answers of the same accuracy are put into the folder of outcomes."""
    sources = read_sources(root)
    record = next(each for each in sources.records if each.cell_id == "1")
    digest = digest_of_cell(record, sources.outcomes["1"])
    facts = {"of": "1", "digest": digest, "verdict": "identical", "by": "M", "date": "2026-03-01"}
    verified.add(root / verified.VERIFIED, {"1": Word.model_validate(facts)})
    assert read_sources(root).words
    forged = replace(outcome("1", MORE), attacked=np.full((1, 16), -1, dtype=np.int8))
    (root / "outcomes" / "zz.jsonl").write_text(dumped(forged))
    assert not read_sources(root).words


# --- options of the run that buy a rank ---


@pytest.mark.parametrize("eps", [EPS * (1 - 1e-8), EPS - 9e-10, EPS + 9e-10])
def test_a_hair_less_makes_no_board_of_its_own(eps: float) -> None:
    """Alone on a board that reads the same, it would be first."""
    threat = ladder_record().threat.model_dump(mode="json")
    less = ladder_record("1", SAFE, name="g", threat=threat | {"eps": eps})
    (board,) = boards([ladder_record("0", MORE), less])
    assert [entry.rank for section in board.sections for entry in section.entries] == [1, 2]
    (other,) = boards([ladder_record("1", threat=threat | {"eps": 0.0151})])
    assert other.title != board.title


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": "bf16"}, "(passes in bf16)"),
        ({"precision": "fp16"}, "(passes in fp16)"),
        ({"tf32": True}, "(passes in TF32)"),
        ({"stand_in": "blur"}, "(stand-in blur)"),
    ],
)
def test_weaker_attacks_are_a_table_of_their_own_that_says_so(options: dict[str, Any], told: str) -> None:
    records = [ladder_record("0", SAFE, attack=asked()), ladder_record("1", MORE, name="g", attack=asked(**options))]
    (board,) = boards(records)
    by_cell = {section.entries[0].records[0].cell_id: section for section in board.sections}
    assert by_cell["1"].ladder == f"{by_cell['0'].ladder} {told}"
    plain = {"precision": "float32", "stand_in": "identity", "tf32": None}
    (same,) = boards([records[0], ladder_record("1", MORE, name="g", attack=asked(**plain))])
    assert len(same.sections) == 1


def test_a_budget_is_in_the_name_of_the_table() -> None:
    (board,) = boards([ladder_record("0", MORE, budget={"gradients": 1, "queries": None})])
    assert [entry.ladder for entry in board.entries] == ["ladder:quick (revision 2) (at most 1 gradients)"]
    assert not board.sections  # the rungs say that they spent more than that


@pytest.mark.parametrize(("draws", "few"), [(1, True), (2, True), (3, False), (10, False)])
def test_a_lucky_noise_draw_is_not_ranked(draws: int, few: bool) -> None:
    made = ladder_record("0", MORE, draws=draws)
    randomized = made.model_copy(update={"defense": made.defense.model_copy(update={"randomized": True})})
    assert ("fewer than 3" in entries(randomized)["0"].why_not) == few
    assert "noise draws" not in entries(made)["0"].why_not


def test_an_easy_client_is_not_ranked_with_all_of_them() -> None:
    data = ladder_record().dataset.model_dump(mode="json") | {"asked": {"dataset": "d", "client": ["a"]}}
    one = {"clients": ["a"], "per_client": {"a": {"robust_accuracy": 1.0}}, "worst_client": None, "dataset": data}
    (board,) = boards([ladder_record("0", SAFE), ladder_record("1", MORE, name="g", **one)])
    assert sorted(section.clients for section in board.sections) == [("a",), ("a", "b")]


def test_hard_images_left_out_are_no_ladder() -> None:
    least = PRESETS["quick"].limit
    assert least is not None
    assert "this ladder requires" in entries(ladder_record("0", MORE, limit=least - 1))["0"].why_not


def test_a_seed_that_failed_is_not_hidden_by_the_others() -> None:
    failed = ladder_record("1", MORE, seed=1, status="failed", reason="out of luck")
    found = entries(ladder_record("0", MORE), failed)
    assert "the measurement failed: out of luck" in found["0"].why_not
    assert not found["0"].ranked


# --- names and images ---


@pytest.mark.parametrize(
    "name", ["medfedpur\u0435", "\uff4dedfedpure", "medfedpure\u200b", "MedFedPure", "medfedpure "]
)
def test_a_name_that_looks_like_a_published_one_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="must match"):
        DefenseSpec(name=name, target="m:C", summary="s")


def test_a_plugin_does_not_shadow_a_defense(tmp_path: Path) -> None:
    """The same name from another plugin is ambiguous, and no record of it describes a cell of ours."""
    file = tmp_path / "shadowing.py"
    toy = (ROOT / "tests" / "helpers" / "toy_plugin.py").read_text(encoding="utf-8")
    file.write_text(toy.replace("guarded=Guarded", "undefended=Guarded"), encoding="utf-8")
    found = Registry(files=[file])
    with pytest.raises(AmbiguousName, match="is offered by 2 distributions"):
        found.find("defense", "undefended")


@pytest.mark.parametrize("far", [1.01, 1.001])
def test_evidence_outside_eps_is_refused(far: float) -> None:
    images = torch.full((2, 1, 4, 4), 0.5)
    threat = ThreatModel("linf", EPS)
    threat.check(images + EPS, images)
    with pytest.raises(OutsideThreatModel):
        threat.check(images + far * EPS, images)
    with pytest.raises(OutsideThreatModel):
        threat.check(images * float("nan"), images)


@pytest.mark.parametrize("index", [[0, 0], [1, 0], [-1, 0]])
def test_evidence_names_an_image_once(tmp_path: Path, index: list[int]) -> None:
    """An image that is named twice would count twice."""
    save_file({"index": torch.tensor(index), "images": torch.zeros(2, 1, 4, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="each image once"):
        read_images(tmp_path / "x.safetensors")
