"""Forgeries by form: types, units, keys, names, time zones, and attacks left out. Each is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from helpers.forgery import Edit, Facts, Referee, gone, put

from robustbench_med.errors import UsageError
from robustbench_med.files.strict_json import strict_json
from robustbench_med.leaderboard.ranking.identical import identical
from robustbench_med.leaderboard.sources import evidence, image_results, test_split, verified
from robustbench_med.leaderboard.sources.submission import read
from robustbench_med.records.contradictions import contradictions
from robustbench_med.records.record import parse


def no_attacks(record: Facts, images: Facts) -> None:
    record["attack"]["rungs"], record["rungs"] = [], []


def without(access: str) -> Edit:
    """A rung is mentioned nowhere."""

    def edit(record: Facts, images: Facts) -> None:
        for section in (record["attack"]["rungs"], record["rungs"]):
            section[:] = [rung for rung in section if rung["access"] != access]

    return edit


def best_draw(record: Facts, images: Facts) -> None:
    """The draws on which less withstood are left out."""
    right = [sum(map(str.__eq__, draw, images["labels"])) for draw in images["attacked"]]
    images["attacked"] = [images["attacked"][right.index(max(right))]]


def same_look(record: Facts, images: Facts) -> None:
    """A client's name with a letter of another alphabet, everywhere."""
    text = json.dumps(record, ensure_ascii=False).replace("site-0", "s\u0456te-0")
    record.update(json.loads(text))
    images.update(json.loads(json.dumps(images, ensure_ascii=False).replace("site-0", "s\u0456te-0")))


def perfect_curve(record: Facts, images: Facts) -> None:
    images["roc"] = [[0.0, 1.0], [1.0, 1.0]]


def no_curve(record: Facts, images: Facts) -> None:
    del images["roc"]


def pixels(record: Facts, images: Facts) -> None:
    """Eps in grey levels, as some papers write it."""
    record["threat"]["eps"] *= 255


def invisible(record: Facts, images: Facts) -> None:
    record["dataset"]["name"] += "\u200b"


REFUSED: dict[str, Edit] = {
    "attacks emptied": no_attacks,
    "the rung query left out": without("query"),
    "the rung gate left out": without("gate"),
    "the first attack left out": without("oblivious"),
    "more restarts than were run": put("attack", "rungs", 0, "params", "restarts", value=50),
    "parameters as they were not given": put("attack", "rungs", 0, "params_passed", value={"steps": 1000}),
    "the best of several draws": best_draw,
    "eps in grey levels": pixels,
    "a client that looks alike": same_look,
    "a data set with an invisible letter": invisible,
    "a perfect ROC curve": perfect_curve,
    "no ROC curve": no_curve,
    "a ladder sold as a claim": put("role", value="claim"),
    "a ladder sold as a probe": put("role", value="probe"),
    "a data set of another revision": put("dataset", "revision", value=99),
    "a defense of another revision": put("defense", "revision", value=0),
    "an attack of another revision": put("attack", "rungs", 0, "revision", value=99),
    "a budget that was not asked": put("budget", value={"gradients": 10_000, "queries": None}),
    "more calls on average than at most": put("spent", "queries_max", value=0.5),
    "images of no client": put("client_images", "site-0", 0, value=1),
    "a partition": put("dataset", "partition", value="dirichlet:alpha=9"),
    "another strategy": put("defense", "strategy", "name", value="pfeddef"),
    "parameters of a strategy": put("defense", "strategy", "params_passed", value={"adversarial": "pgd"}),
    "no strategy": gone("defense", "strategy"),
    "a surrogate by another name": put("surrogate", "name", value="guarded"),
    "parameters of a surrogate": put("surrogate", "params", value={"strong": True}),
    "another precision": put("attack", "asked", "precision", value="bfloat16"),
}


@pytest.mark.parametrize("edit", REFUSED.values(), ids=REFUSED)
def test_a_forgery_is_refused(referee: Referee, edit: Edit) -> None:
    found = referee.objections(referee.forged(edit))
    assert found
    assert all(len(line.splitlines()) == 1 for line in found)


NO_RECORD: dict[str, Edit] = {
    "a truth value for a count": put("n", value=True),
    "a truth value for draws": put("draws", value=True),
    "a truth value for a seed": put("seed", value=False),
    "a truth value for an accuracy": put("metrics", "robust_accuracy", value=True),
    "a text for an accuracy": put("metrics", "robust_accuracy", value="1.0"),
    "a text for a count": put("n", value="24"),
    "a broken count": put("n", value=24.5),
    "a count beyond all readers": put("n", value=2**53 + 2),
    "a number beyond all readers": put("metrics", "robust_accuracy", value=10**400),
    "a version that is a truth value": put("schema_version", value=True),
    "a version with a fraction": put("schema_version", value=6.0),
    "an eps of minus nothing": put("threat", "eps", value=-0.0),
    "an accuracy that is none": put("metrics", "robust_accuracy", value=float("nan")),
    "an infinite parameter": put("defense", "params", "fpr", value=float("inf")),
    "a time in no zone there is": put("created", value="2026-11-22T10:00:00+99:00"),
    "a time with another script": put("created", value="\u0662\u0660\u0662\u0666-11-22T10:00:00+00:00"),
    "a year of another century": put("created", value="1926-11-22T10:00:00+00:00"),
}


@pytest.mark.parametrize("edit", NO_RECORD.values(), ids=NO_RECORD)
def test_what_is_no_record_is_no_submission(referee: Referee, edit: Edit) -> None:
    with pytest.raises(UsageError) as caught:
        referee.forged(edit)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", ['"n": 24', '"role": "cell"', '"robust_accuracy": 1.0', '"labels": ""', '"name": "x"'])
def test_a_key_is_there_once(referee: Referee, key: str) -> None:
    """A reviewer reads the first, a program the last."""
    text = referee.file.read_text()
    name = key.partition(":")[0]
    assert name in text
    target = referee.file.with_name("twice.json")
    target.write_text(text.replace(f"{name}:", f"{key}, {name}:", 1).replace('"name": "guarded"', '"name": "twice"', 1))
    with pytest.raises(UsageError, match="is there twice"):
        read(target)


@pytest.mark.parametrize(
    "url", ["https://arxiv.org@example.org/abs/1", "https://a:b@example.org", "https:///x", "ftp://a"]
)
def test_a_link_leads_where_it_says(referee: Referee, url: str) -> None:
    facts = json.loads(referee.file.read_text())
    facts["paper"]["url"] = url
    with pytest.raises(UsageError, match="its paper has no address"):
        referee.written(facts)


READERS: dict[str, Callable[[Any], object]] = {
    "evidence": evidence.read,
    "split": test_split.read,
    "words": verified.read,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("text", ['{"of": "a", "of": "b"}', '{"format": NaN}', '{"format": 1, "x": -Infinity}'])
def test_every_file_of_others_is_read_in_one_way(referee: Referee, read: Callable[[Any], object], text: str) -> None:
    file = referee.file.with_name("f.json")
    file.write_text(text)
    with pytest.raises(UsageError, match=r"there twice|is no number of JSON"):
        read(file)


def test_json_that_has_one_meaning_is_read() -> None:
    assert strict_json('{"a": [{"b": 1}, {"b": 2.5e3}], "b": null}') == {"a": [{"b": 1}, {"b": 2500.0}], "b": None}


@pytest.mark.parametrize("roc", [[[0.5, 2.0]], [[0.5, 0.5], [0.2, 0.9]], [[-0.1, 0.5]], [[0.1, 0.9], [0.2, 0.8]]])
def test_a_roc_curve_rises(roc: list[list[float]]) -> None:
    line = {"cell_id": "a", "index": "0", "labels": "0", "clean": ["0"], "attacked": ["0"], "roc": roc}
    with pytest.raises(ValueError, match="roc: its points"):
        image_results.parse(json.dumps(line))


def test_what_was_measured_first_is_so_in_every_time_zone(referee: Referee) -> None:
    """One system under two names bears that of the earlier: noon in the east is before eleven in the west."""
    real = json.loads(referee.file.read_text())["records"][0]
    west, east = (json.loads(json.dumps(real)) for _ in range(2))
    west |= {"cell_id": "a", "created": "2026-11-22T11:00:00-08:00"}
    east |= {"cell_id": "b", "created": "2026-11-22T12:00:00+08:00"}
    east["defense"]["params_passed"] = {"fpr": "0.05"}
    records = [parse(json.dumps(each)) for each in (west, east)]
    found = identical(records, {})
    assert len(set(found.values())) == 1
    assert set(found.values()) == {key for key in found if found[key] == key} == {list(found)[1]}


def test_counts_of_one_record_agree(referee: Referee) -> None:
    facts = json.loads(referee.file.read_text())["records"][0]
    assert list(contradictions(parse(json.dumps(facts)))) == []
    facts["patients"] = facts["n"] + 1
    facts["client_images"]["site-0"][0] += 1
    said = list(contradictions(parse(json.dumps(facts))))
    assert [line for line in said if "patients" in line]
    assert [line for line in said if "clients are said to have" in line]
