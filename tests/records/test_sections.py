"""Sections of records: read and written again as the same JSON, and strict on what they hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.records import ladder_record, record

from robustbench_med.records.migration import SCHEMA
from robustbench_med.records.record import dumped, parse

FILES = sorted((ROOT / "leaderboard" / "records").glob("*.jsonl"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_published_records_are_written_as_they_were(file: Any) -> None:
    for line in file.read_text(encoding="utf-8").splitlines():
        again, before = dumped(parse(line)), json.loads(line)
        if before["schema_version"] == SCHEMA:
            assert again == line
        else:
            # With formats 5 and 6.
            came = {"patients": None, "client_images": {}, "client_intervals": {}, "certified": None}
            assert json.loads(again) == came | before | {"schema_version": SCHEMA}


def test_unknown_keys_are_kept_and_missing_ones_stay_missing() -> None:
    facts = json.loads(dumped(record()))
    facts["dataset"]["later"] = {"a": [1, None]}
    assert json.loads(dumped(parse(json.dumps(facts)))) == facts
    assert set(facts["threat"]) == {"norm", "eps", "access"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": {"seed": "0"}}, "defense.weights.seed"),
        ({"weights": {"digest": None}}, "defense.weights.digest: null"),
        ({"parameters": {"classifier": True}}, "defense.parameters.classifier"),
        ({"parts": {"detector": {}}}, "defense.parts.detector.name"),
    ],
)
def test_values_are_not_converted(change: dict[str, Any], words: str) -> None:
    facts = json.loads(dumped(record()))
    facts["defense"] |= change
    with pytest.raises(ValueError, match=words):
        parse(json.dumps(facts))


def test_a_rung_without_results_needs_a_reason() -> None:
    facts = json.loads(dumped(ladder_record()))
    del facts["rungs"][0]["attacked"]
    with pytest.raises(ValueError, match="attacked is missing, and no reason is given"):
        parse(json.dumps(facts))
    facts["rungs"][0]["reason"] = "no gradient"
    assert parse(json.dumps(facts)).rungs[0].left is None
