"""Forgeries by what a hand-written reader lets pass: other types, numbers, letters, keys, and files that never end."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.command import invoke
from helpers.leaderboard import folder
from helpers.paths import ROOT
from helpers.records import ladder_record, outcome

from robustbench_med.errors import DataError
from robustbench_med.files.strict_json import strict_json
from robustbench_med.leaderboard.sources import evidence, image_results, submission, test_split, verified
from robustbench_med.leaderboard.sources.folder import read_sources

Facts = dict[str, Any]
#: Written as 1e400, which no reader of JSON has.
HUGE = "a huge number"
IMAGES = {"cell_id": "0", "index": "0-1", "labels": "01", "clean": ["01"], "attacked": ["00"]}
PAPER = {"text": "P 2026", "url": "https://example.org"}


def text_of(facts: Any) -> str:
    return json.dumps(facts).replace(f'"{HUGE}"', "1e400")


def whole(change: Facts) -> Facts:
    return IMAGES | {"patients": {"a": "0", "b": "1"}, "roc": [[0, 0.5]], "lesions": {"radius": [None, 4]}} | change


LINES: dict[str, Facts] = {
    "a digit of another script": {"index": "\u0660-1"},
    "an index with an underline": {"index": "0-1_0"},
    "an index with spaces": {"index": " 0-1"},
    "an index with a sign": {"index": "+0-1"},
    "an index as a number": {"index": 1},
    "an index that falls": {"index": "1,0"},
    "an image twice": {"index": "0,0"},
    "more rows than labels": {"index": "0-2"},
    "fewer rows than labels": {"index": "0"},
    "millions of rows in many ranges": {"index": ",".join(f"{n}0000000-{n}9999999" for n in range(1, 200))},
    "a letter of another script for an answer": {"attacked": ["0\u0430"]},
    "a capital letter for an answer": {"attacked": ["0A"]},
    "labels as a list": {"labels": ["0", "1"]},
    "answers as one text": {"clean": "01"},
    "no answers": {"attacked": []},
    "answers of another length": {"attacked": ["00", "0"]},
    "a label that is withheld": {"labels": "0-"},
    "an unknown key": {"Attacked": ["01"]},
    "a cell in capital letters": {"cell_id": "A"},
    "a cell as a number": {"cell_id": 0},
    "nothing for a key": {"roc": None},
    "a curve of huge whole numbers": {"roc": [[10**400, 0]]},
    "a curve of numbers without end": {"roc": [[HUGE, 0]]},
    "a curve of texts": {"roc": [["0", "0.5"]]},
    "a curve of truth values": {"roc": [[False, True]]},
    "a lesion of a huge size": {"lesions": {"radius": [10**400, None]}},
    "a lesion as a text": {"lesions": {"radius": ["3", None]}},
    "a lesion as a truth value": {"lesions": {"radius": [True, None]}},
    "a lesion smaller than nothing": {"lesions": {"radius": [-3, None]}},
    "a lesion of another measurement": {"lesions": {"Radius": [3, None]}},
    "a patient of further rows": {"patients": {"a": "0-1", "b": "2-9"}},
    "a patient of millions of rows": {"patients": {"a": "0-9999999"}},
    "a row of two patients": {"patients": {"a": "0-1", "b": "1"}},
    "a patient with a line end": {"patients": {"a\n": "0-1"}},
    "rows of a patient as a number": {"patients": {"a": 0, "b": 1}},
    "a client of no rows": {"sites": {"a": ""}},
}


def test_a_line_of_results_is_read() -> None:
    made = image_results.parse(text_of(whole({})))
    assert (made.index, made.patients, made.roc) == ((0, 1), ("a", "b"), ((0.0, 0.5),))
    assert image_results.parse(image_results.dumped(made)).lesions["radius"][1] == 4


@pytest.mark.parametrize("change", LINES.values(), ids=LINES)
def test_results_of_images_have_one_form(change: Facts) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"\w") as caught:
        image_results.parse(text_of(whole(change)))
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1


SPLIT = json.loads(sorted((ROOT / "leaderboard" / "splits").glob("lgg-0*.json"))[0].read_text())
FILES: dict[str, tuple[str, Callable[[Path], object], Facts]] = {
    "split": ("lgg", test_split.read, SPLIT),
    "evidence": (
        "e",
        evidence.read,
        {"format": 1, "name": "e", "cell_id": "0", "attack": "sharper", "paper": PAPER, "images_sha256": "0" * 64}
        | {"choice": IMAGES, "outcome": IMAGES},
    ),
    "submission": (
        "s",
        submission.read,
        {"format": 1, "name": "s", "defense": "f", "paper": PAPER, "notes": "", "records": [], "outcomes": [IMAGES]},
    ),
}
CHANGES: dict[str, tuple[str, Facts]] = {
    "a fold without end": ("split", {"fold": {**SPLIT["fold"], "number": HUGE}}),
    "a fold and a half": ("split", {"fold": {**SPLIT["fold"], "number": 1.5}}),
    "the class of lesions as a text": ("split", {"lesion_class": "1"}),
    "synthetic as a text": ("split", {"synthetic": "no"}),
    "classes as one text": ("split", {"classes": "ab"}),
    "a licence as a list": ("split", {"licence": ["CC0"]}),
    "no digest": ("split", {"digest": None}),
    "a further key of a split": ("split", {"Labels": ""}),
    "another format": ("split", {"format": 2}),
    "an attack as a list": ("evidence", {"attack": ["sharper"]}),
    "an attack of many lines": ("evidence", {"attack": "sharper\n| 1 | ours | 100.0 |"}),
    "an attack without end": ("evidence", {"attack": "x" * 10_000}),
    "answers of another cell": ("evidence", {"outcome": {**IMAGES, "cell_id": "1"}}),
    "answers that choose, of another cell": ("evidence", {"choice": {**IMAGES, "cell_id": "1"}}),
    "a further key of evidence": ("evidence", {"images": "x"}),
    "a digest in capital letters": ("evidence", {"images_sha256": "A" * 64}),
    "results of one cell twice": ("submission", {"outcomes": [IMAGES, {**IMAGES, "attacked": ["01"]}]}),
    "the same results twice": ("submission", {"outcomes": [IMAGES, IMAGES]}),
    "results by cell": ("submission", {"outcomes": {"0": IMAGES}}),
    "a further key of a submission": ("submission", {"accepted": True}),
    "a defense that is nothing": ("submission", {"defense": None}),
    "notes of many lines": ("submission", {"notes": "a\n# b"}),
    "notes without end": ("submission", {"notes": "x" * 10_000}),
    "a paper with a further key": ("submission", {"paper": {**PAPER, "by": "M"}}),
    "a name in capital letters": ("submission", {"name": "S"}),
}


def written(folder: Path, name: str, facts: Facts) -> Path:
    file = folder / f"{name}.json"
    file.write_text(text_of(facts))
    return file


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_others_is_read(tmp_path: Path, name: str) -> None:
    stem, read, facts = FILES[name]
    read(written(tmp_path, stem, facts))


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES)
def test_files_of_others_have_one_form(tmp_path: Path, name: str, change: Facts) -> None:
    stem, read, facts = FILES[name]
    with pytest.raises(DataError, match=rf"{stem}\.json is no ") as caught:
        read(written(tmp_path, stem, facts | change))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700


WORD = {"of": "0", "digest": "0" * 64, "verdict": "identical", "by": "M", "date": "2026-03-01"}
FRESH = {"source": "d", "n": 8, "patients": 4, "clean": 1.0, "robust": 0.5, "low": 0.2, "high": 0.8}


@pytest.mark.parametrize(
    "change",
    [
        {"date": "2026-02-30"},
        {"date": "\u0662026-03-01"},
        {"fresh": {**FRESH, "n": "8"}},
        {"fresh": {**FRESH, "n": True}},
        {"fresh": {**FRESH, "n": HUGE}},
        {"fresh": {**FRESH, "n": 2}},
        {"fresh": {**FRESH, "robust": "0.5"}},
        {"fresh": {**FRESH, "robust": 0.9}},
        {"verdict": "Identical"},
    ],
)
def test_a_word_of_a_maintainer_has_one_form(tmp_path: Path, change: Facts) -> None:
    file = tmp_path / verified.VERIFIED
    file.write_text(text_of(WORD | {"fresh": FRESH}))
    assert verified.read(file)["0"].fresh is not None
    file.write_text(text_of(WORD | {"fresh": FRESH} | change))
    with pytest.raises(DataError, match="line 1 is no maintainer's word"):
        verified.read(file)


def test_a_word_of_a_maintainer_is_a_text(tmp_path: Path) -> None:
    file = tmp_path / verified.VERIFIED
    file.write_bytes(text_of(WORD).encode() + b'\n{"of": "\xff"}\n')
    with pytest.raises(DataError, match="line 2 is no maintainer's word"):
        verified.read(file)


@pytest.mark.parametrize("text", ["1e400", "-1e999", str(2**63), str(-(2**63) - 1), "9" * 5000])
def test_a_number_that_not_every_reader_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is too large"):
        strict_json(f'{{"a": [{text}]}}')
    assert strict_json(f"[{2**63 - 1}, {-(2**63)}, 1e300]") == [2**63 - 1, -(2**63), 1e300]


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_a_device_or_a_pipe_is_not_followed(tmp_path: Path, name: str) -> None:
    stem, read, _ = FILES[name]
    (tmp_path / f"{stem}.json").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="it is a device or a pipe, not a file"):
        read(tmp_path / f"{stem}.json")
    (tmp_path / f"{stem}.json").unlink()
    os.mkfifo(tmp_path / f"{stem}.json")
    with pytest.raises(DataError, match="it is a device or a pipe, not a file"):
        read(tmp_path / f"{stem}.json")
    told = invoke("leaderboard", "check", tmp_path / f"{stem}.json")
    assert told.exit_code == 2
    assert "cannot be read: it is a device or a pipe" in told.output


def test_a_word_does_not_hold_for_other_patients() -> None:
    """Of a data set that the leaderboard does not know, patients are as the submission says: joined or split, later."""
    record, answers = ladder_record("0"), outcome("0", [True] * 8)
    joined, apart = (replace(answers, patients=tuple(codes)) for codes in ("aabbccdd", "abcdefgh"))
    assert verified.digest_of_cell(record, joined) != verified.digest_of_cell(record, apart)


@pytest.mark.parametrize("kind", ["records", "outcomes"])
def test_files_of_the_folder_are_no_devices_either(tmp_path: Path, kind: str) -> None:
    root = folder(tmp_path, ladder_record("0"))
    (root / kind).mkdir(exist_ok=True)
    (root / kind / "zz.jsonl").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=rf"cannot read the {kind} in .*zz\.jsonl: it is a device or a pipe"):
        read_sources(root)


@pytest.mark.parametrize("text", ["a\nb", "x" * 1001, "a\x00b"])
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, text: str) -> None:
    paper = ["--paper", "https://example.org"]
    for option in ("--notes", "--cite"):
        told = invoke("submit", tmp_path, "--defense", "f", *paper, option, text)
        assert (told.exit_code, "give one line" in " ".join(told.output.split())) == (2, True), told.output
    for attack, cite in ((text, ""), ("sharper", text)):
        asked = ["rescore", "x.safetensors", "--cell", "0", "--name", "e", "--attack", attack, "--cite", cite, *paper]
        told = invoke("leaderboard", *asked)
        assert (told.exit_code, "give one line" in " ".join(told.output.split())) == (2, True), told.output
