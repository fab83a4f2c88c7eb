"""Fuzzing of what others hand in, and of what lies in the leaderboard's folder: taken, or refused in one line.

A few cases run each time. The long run::

    FUZZ_CASES=10000 pytest tests/leaderboard/test_fuzz_sources.py
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fuzz import FUZZ, JSON, mutated, refused
from helpers.paths import ROOT
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from robustbench_med.cli.commands.submit import judged
from robustbench_med.errors import BadConfig, DataError
from robustbench_med.files.jsonl import content, file_of
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.sources import evidence, image_results, submission, test_split, verified
from robustbench_med.leaderboard.sources.claims import Publications
from robustbench_med.leaderboard.sources.folder import with_known_labels
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import parse
from robustbench_med.reproduction.rescore import read_images

FOLDER = ROOT / "leaderboard"


def lines(folder: str, kind: str, name: str) -> list[dict[str, Any]]:
    file = file_of(FOLDER / folder / kind, name, compressed=False)
    return [json.loads(line) for line in content(file).splitlines()]


def handed_in() -> list[dict[str, Any]]:
    """Submissions of published cells: a single attack, and ladders with noise and without."""
    found = []
    boards = "leaderboard-brainsim-standard"
    for folder, name, at in (("measurements", "brainsim", 0), ("", boards, 2), ("", boards, 6)):
        record = lines(folder, "records", name)[at]
        (outcome,) = [each for each in lines(folder, "outcomes", name) if each["cell_id"] == record["cell_id"]]
        paper = {"text": "P 2026", "url": "https://example.org"}
        facts = {"format": 1, "name": "s", "defense": record["defense"]["name"], "paper": paper, "notes": ""}
        found.append(facts | {"records": [record], "outcomes": [outcome]})
    return found


SUBMISSIONS = handed_in()
RECORD = parse(json.dumps(SUBMISSIONS[0]["records"][0]))
SPLITS = test_split.read_all(FOLDER / "splits")
EVIDENCE = {
    "format": 1,
    "name": "e",
    "cell_id": RECORD.cell_id,
    "attack": "sharper",
    "paper": {"text": "P", "url": "https://example.org"},
    "images_sha256": "0" * 64,
    "choice": SUBMISSIONS[0]["outcomes"][0],
    "outcome": SUBMISSIONS[0]["outcomes"][0],
}
WORD = {
    "of": "1",
    "digest": "0" * 64,
    "verdict": "within",
    "by": "M",
    "date": "2026-03-01",
    "why": "because",
    "fresh": {"source": "d", "n": 8, "patients": 4, "clean": 1.0, "robust": 0.5, "low": 0.2, "high": 0.8},
}
FILES = [json.loads(path.read_text()) for path in sorted((FOLDER / "splits").glob("*.json"))]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def text_of(facts: Any) -> str:
    """JSON as others may write it, numbers included that no JSON has."""
    return json.dumps(facts).replace("Infinity", "1e400")


@FUZZ
@given(facts=mutated(SUBMISSIONS))
def test_submissions(registry: Registry, facts: dict[str, Any]) -> None:
    file = Path("s.json")
    file.write_text(text_of(facts))
    with refused(DataError, BadConfig):
        made = submission.read(file)
        found = judged(made, {}, SPLITS, registry, None)
        assert all(len(each) < 3000 and "\n" not in each for each in found.refused)
        boards(made.records, made.outcomes, Publications())
        submission.write(Path("again.json"), made)


@FUZZ
@given(facts=mutated([EVIDENCE]))
def test_evidence(facts: dict[str, Any]) -> None:
    file = Path("e.json")
    file.write_text(text_of(facts))
    with refused(DataError):
        with_known_labels(evidence.read(file), RECORD, SPLITS, {}, "e")


@FUZZ
@given(facts=mutated(FILES))
def test_splits(facts: dict[str, Any]) -> None:
    file = Path("s.json")
    file.write_text(text_of(facts))
    with refused(DataError):
        test_split.write(Path("again.json"), test_split.read(file))


@FUZZ
@given(facts=mutated([each["outcomes"][0] for each in SUBMISSIONS]))
def test_results_of_images(facts: dict[str, Any]) -> None:
    with refused(ValueError):
        made = image_results.parse(text_of(facts))
        assert image_results.dumped(image_results.parse(image_results.dumped(made))) == image_results.dumped(made)


LONG = "x" * 3000


@pytest.mark.parametrize(
    "change",
    [
        {"roc": [[LONG, 0]]},
        {"index": LONG},
        {"index": f"0-{LONG}"},
        {"labels": LONG},
        {"lesions": {LONG: []}},
        {"lesions": {"radius": [LONG]}},
        {"patients": {LONG: "0", f"{LONG}y": "0"}},
        {"sites": {LONG: LONG}},
        {"cell_id": LONG},
        {"cell_id": "a\nb"},
        {"cell_id": ["a"]},
        {"clean": [[LONG]]},
        {LONG: 1, "cell_id": 0},
    ],
)
def test_results_of_images_are_refused_in_a_short_line(change: dict[str, Any]) -> None:
    facts = {**SUBMISSIONS[0]["outcomes"][0], **change}
    with pytest.raises(ValueError, match=r"\w") as caught:
        image_results.parse(text_of(facts))
    assert len(str(caught.value)) <= 400
    assert len(str(caught.value).splitlines()) == 1


@FUZZ
@given(words=st.lists(mutated([WORD]).map(text_of) | JSON.map(text_of) | st.text(max_size=40), max_size=3))
def test_words_of_maintainers(words: list[str]) -> None:
    file = Path("verified.jsonl")
    file.write_text("\n".join(words), encoding="utf-8", errors="replace")
    with refused(DataError):
        verified.add(Path("again.jsonl"), verified.read(file))


def _images() -> Iterator[bytes]:
    for shape, dtype in (((2, 1, 4, 4), torch.float32), ((2, 1, 4), torch.float32), ((2, 1, 4, 4), torch.float16)):
        yield save({"index": torch.arange(2), "images": torch.rand(shape).to(dtype)})
    yield save({"index": torch.zeros(0, dtype=torch.int64), "images": torch.zeros(0, 1, 4, 4)})
    yield save({"index": torch.tensor([1, 0]), "images": torch.full((2, 1, 4, 4), float("nan"))})


IMAGES = list(_images())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file of images, cut, or with some of its bytes changed."""
    data = bytearray(draw(st.sampled_from(IMAGES)))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, min(200, len(data) - 1)))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@FUZZ
@given(data=damaged() | st.binary(max_size=100))
def test_images_of_evidence(data: bytes) -> None:
    file = Path("images.safetensors")
    file.write_bytes(data)
    with refused(DataError):
        images, index, _ = read_images(file)
        assert len(images) == len(index) > 0


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a huge number of images": lambda facts: facts["outcomes"][0].update(index="0-9999999999"),
    "deeply nested": lambda facts: facts["records"][0]["defense"].update(params=_nested(500)),
    "a number that JSON has not": lambda facts: facts["records"][0].update(seconds=float("nan")),
    "a surrogate half": lambda facts: facts.update(notes="\ud800"),
}


def _nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = {"a": found}
    return found


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_submissions_that_would_cost(registry: Registry, change: Callable[[dict[str, Any]], None]) -> None:
    facts = copy.deepcopy(SUBMISSIONS[0])
    change(facts)
    test_submissions.hypothesis.inner_test(registry, facts)  # type: ignore[attr-defined]
