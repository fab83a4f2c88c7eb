"""Forged submissions that the check refuses without running anything: each is an edit of a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.forgery import (
    Edit,
    Facts,
    Referee,
    gone,
    metric,
    perfect,
    permuted,
    put,
    reindexed,
    relabelled,
    sold_as_full,
)
from helpers.paths import ROOT

from robustbench_med.errors import UsageError
from robustbench_med.files.jsonl import content
from robustbench_med.leaderboard.sources import image_results, test_split
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import parse
from robustbench_med.reproduction.audit import faults, metrics_of


def test_the_real_one_is_taken_and_verified(referee: Referee) -> None:
    real = referee.forged(lambda record, images: None)
    (record,) = real.records
    low, high = sorted(record.per_client[site]["robust_accuracy"] or 0.0 for site in record.clients)
    assert 0 < low < high < 1  # else some edits would change nothing
    assert referee.objections(real) == ()
    assert referee.verdict(real) == ("identical", ())


def wide(record: Facts, images: Facts) -> None:
    record["intervals"]["robust_accuracy"] = [0.0, 1.0]


def narrow(record: Facts, images: Facts) -> None:
    value = record["metrics"]["robust_accuracy"]
    record["intervals"]["robust_accuracy"] = [value, value]


def sold_as_full_with_rungs(record: Facts, images: Facts) -> None:
    sold_as_full(record, images)
    for rung in record["attack"]["rungs"]:
        if rung["name"] == "apgd":
            rung["params"]["steps"], rung["params_passed"] = 100, {}
    for rung in record["rungs"]:
        rung["rung"] = rung["rung"].replace(":steps=20", "").replace(":steps=10", "")


def all_relabelled(record: Facts, images: Facts) -> None:
    """Labels and answers turned over: every accuracy stays."""
    turn = str.maketrans("01", "10")
    images["labels"] = images["labels"].translate(turn)
    for side in ("clean", "attacked"):
        images[side] = [draw.translate(turn) for draw in images[side]]


def dropped(record: Facts, images: Facts) -> None:
    """The images that an attack broke are left out."""
    kept = [
        at
        for at, (label, told) in enumerate(zip(images["labels"], images["attacked"][0], strict=True))
        if label == told
    ]
    images["index"] = ",".join(map(str, kept))
    del images["patients"], images["sites"]
    images["labels"] = "".join(images["labels"][at] for at in kept)
    for side in ("clean", "attacked"):
        images[side] = ["".join(draw[at] for at in kept) for draw in images[side]]
    record["n"] = len(kept)
    record["metrics"]["robust_accuracy"] = record["metrics"]["clean_accuracy"] = 1.0


def other_patients(record: Facts, images: Facts) -> None:
    images["patients"] = {"0" * 12: images["index"]}


def without_patients(record: Facts, images: Facts) -> None:
    """As older formats are, so that intervals treat images as independent."""
    record["patients"] = None
    record["client_images"], record["client_intervals"] = {}, {}


def no_gate(record: Facts, images: Facts) -> None:
    """A rung that lowered the row did not apply, it is said."""
    record["attack"]["rungs"] = [rung for rung in record["attack"]["rungs"] if rung["access"] != "gate"]
    for rung in record["rungs"]:
        if rung["access"] == "gate":
            rung.update(reason="there is no detector", attacked=0, broken=0)


def static(record: Facts, images: Facts) -> None:
    """Without detector and purifier it would be on another track."""
    record["defense"]["parts"]["detector"] = record["defense"]["parts"]["purifier"] = None
    record["defense"]["randomized"] = False


def other_worst(record: Facts, images: Facts) -> None:
    record["worst_client"] = next(client for client in record["clients"] if client != record["worst_client"])


def saturated(record: Facts, images: Facts) -> None:
    """The last round had broken nothing."""
    rounds = next(rung for rung in reversed(record["rungs"]) if rung.get("rounds"))["rounds"]
    rounds[-1]["withstanding"] = min(1.0, rounds[-1]["withstanding"] + 0.2)


def longer(record: Facts, images: Facts) -> None:
    """The attack had one more round."""
    rounds = next(rung for rung in reversed(record["rungs"]) if rung.get("rounds"))["rounds"]
    rounds.append({"gradients": rounds[-1]["gradients"] + 100, "withstanding": rounds[-1]["withstanding"]})


def tireless(record: Facts, images: Facts) -> None:
    """The most robust image cost many gradients, as a rank requires."""
    for rung in record["rungs"]:
        if rung["access"] == "full" and not rung["reason"]:
            rung["gradients_max"] = 100_000


def alone(record: Facts, images: Facts) -> None:
    """Each image is of a patient of its own, so that intervals are narrow."""
    images["patients"] = {f"{row:012x}": str(row) for row in range(len(images["labels"]))}
    record["patients"] = len(images["labels"])


def look_alike(record: Facts, images: Facts) -> None:
    record["defense"]["name"] = "gu\u0430rded"


REFUSED: dict[str, Edit] = {
    # The five that were found.
    "accuracies of 1 on another CPU": perfect,
    "a quick ladder sold as full": sold_as_full,
    "a quick ladder sold as full, rungs renamed": sold_as_full_with_rungs,
    "images permuted": permuted,
    "images relabelled": relabelled,
    "images and answers relabelled": all_relabelled,
    "images with other rows": reindexed,
    "not randomized": put("defense", "randomized", value=False),
    "not synthetic": put("dataset", "synthetic", value=False),
    "another licence": put("dataset", "licence", value="CC0"),
    "a fold of more images": put("dataset", "fold", value={"number": 0, "of": 3, "pool": "other"}),
    "measured in the future": put("created", value="2090-01-01T00:00:00+00:00"),
    # Their siblings.
    "an interval of everything": wide,
    "an interval of nothing": narrow,
    "images left out": dropped,
    "patients joined": other_patients,
    "patients unknown": without_patients,
    "a rung that is said not to apply": no_gate,
    "a static defense": static,
    "randomized unsaid": gone("defense", "randomized"),
    "a balanced accuracy": metric("robust_balanced_accuracy", 0.99),
    "a hidden-lesion rate": metric("hidden_lesion_rate", 0.0),
    "an accuracy over draws": metric("robust_any_of_n", 1.0),
    "a client's accuracy": metric("robust_accuracy", 1.0, "site-0"),
    "another worst client": other_worst,
    "no spread between clients": put("between_clients", "robust_accuracy", "spread", value=0.0),
    "a figure left out": gone("metrics", "robust_any_of_n"),
    "twice the images": put("n", value=48),
    "fewer images requested": put("limit", value=8),
    "a larger eps": put("threat", "eps", value=0.1),
    "another norm": put("threat", "norm", value="l2"),
    "another goal": put("threat", "goal", value="hide-lesion"),
    "another seed": put("seed", value=7),
    "other weights": put("defense", "weights", "digest", value="0" * 32),
    "another surrogate": put("surrogate", "digest", value="0" * 32),
    "other data": put("dataset", "digest", value="stripes-25"),
    "classes turned over": put("dataset", "classes", value=["right", "left"]),
    "more noise draws in a gradient": put("eot", value=64),
    "more noise draws scored": put("draws", value=10),
    "more gradients spent": put("spent", "gradients_mean", value=10_000.0),
    "another revision of the ladder": put("attack", "revision", value=99),
    "a stronger attack on a rung": put("attack", "rungs", 0, "params", "steps", value=1000),
    "another parameter": put("defense", "params", "fpr", value=0.5),
    "another detector": put("defense", "parts", "detector", "name", value="margins"),
    "another id": put("cell_id", value="f" * 16),
    "another defense": put("defense", "name", value="bare"),
    "trained after it was measured": put("defense", "weights", "trained", value="2089-01-01T00:00:00+00:00"),
    "options left out": gone("attack", "asked"),
    "controls that were not run": put("diagnostics", "level", value="off"),
    "a rung that broke more than it attacked": put("rungs", 0, "broken", value=10_000),
    "a flag that there is not": put("diagnostics", "flags", value=["sound"]),
    "a flag that was lowered": put("diagnostics", "figures", "batch_dependent", value=0.5),
    "a flag that answers raise": put("diagnostics", "flags", value=["constant-answer"]),
    "a figure of the controls left out": gone("diagnostics", "figures", "withstood_huge_eps"),
    "a lower share of one answer": put("diagnostics", "figures", "chance_accuracy", value=0.25),
    # Tried later.
    "a saturated curve": saturated,
    "a curve with one more round": longer,
    "many gradients for the most robust image": tireless,
    "each image a patient": alone,
    "another lesion class": put("dataset", "lesion_class", value=0),
    "an unseen client": put("unseen", value=["site-0"]),
    "a threshold by another rule": put("defense", "parts", "gate_revision", value=2),
    "another strength": put("defense", "parts", "strength", value=0.125),
    "a name that looks alike": look_alike,
}


@pytest.mark.parametrize("edit", REFUSED.values(), ids=REFUSED)
def test_a_forgery_is_refused_without_running_anything(referee: Referee, edit: Edit) -> None:
    assert referee.objections(referee.forged(edit)) != ()


def test_an_archived_record_is_not_submitted_again(referee: Referee) -> None:
    facts = json.loads(referee.file.read_text())
    line = content(ROOT / "leaderboard/archive/records/ladder-brainsim.jsonl.gz").splitlines()[0]
    facts |= {"defense": json.loads(line)["defense"]["name"], "records": [json.loads(line)], "outcomes": []}
    refused = " ".join(referee.objections(referee.written(facts)))
    assert "measured with revision 1 of the ladder" in refused
    assert "does not hold the options of its run" in refused


@pytest.mark.parametrize(
    "created", ["zzzz", "", "9999-12-31T00:00:00+00:00", "2026-13-01T00:00:00", "tomorrow", "20260101"]
)
def test_a_time_that_is_none_makes_no_record(referee: Referee, created: str) -> None:
    with pytest.raises(UsageError, match="created"):
        referee.forged(put("created", value=created))


def test_a_cell_is_submitted_once(referee: Referee) -> None:
    facts = json.loads(referee.file.read_text())
    facts["records"].append({**facts["records"][0], "created": "2026-12-31T00:00:00+00:00"})
    assert any("twice" in each for each in referee.objections(referee.written(facts)))


def test_one_training_is_not_sold_as_two(referee: Referee) -> None:
    facts = json.loads(referee.file.read_text())
    again = json.loads(json.dumps(facts["records"][0])) | {"cell_id": "f" * 16}
    again["defense"]["weights"]["seed"] += 1
    facts["records"].append(again)
    assert any("are of one training" in each for each in referee.objections(referee.written(facts)))


def test_results_of_other_cells_are_refused(referee: Referee) -> None:
    facts = json.loads(referee.file.read_text())
    facts["outcomes"].append({**facts["outcomes"][0], "cell_id": "abc"})
    assert any("not submitted" in each for each in referee.objections(referee.written(facts)))


def test_a_rung_of_a_published_row_breaks_as_many_as_no_longer_withstand() -> None:
    board = ROOT / "leaderboard"
    results = {each.cell_id: each for each in map(image_results.parse, lines(board, "outcomes"))}
    splits = {split.digest: split for split in map(test_split.read, (board / "splits").glob("brainsim2*.json"))}
    metrics = metrics_of(Registry())
    for line in lines(board, "records"):
        record = parse(line)
        split, answers = splits[str(record.dataset.digest)], results[record.cell_id]
        assert list(faults(record, answers, split, metrics)) == []
        ran = [at for at, rung in enumerate(record.rungs) if not rung.reason]
        facts = json.loads(line)
        facts["rungs"][ran[1]]["broken"] += 1
        told = list(faults(parse(json.dumps(facts)), answers, split, metrics))
        assert any("fewer withstand than before" in each for each in told), told


def lines(board: Path, kind: str) -> list[str]:
    return content(board / kind / "leaderboard-brainsim2.jsonl").decode().splitlines()[:4]
