"""Forged marks, attacks and shares of published records: each is an edit of one that the audit takes as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from helpers.forgery import Facts, put
from helpers.paths import ROOT

from robustbench_med.files.jsonl import content, file_of
from robustbench_med.interfaces.metric import Metric
from robustbench_med.leaderboard.sources import image_results
from robustbench_med.leaderboard.sources.test_split import read_all
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import parse
from robustbench_med.reproduction.audit import faults, metrics_of

BOARD = ROOT / "leaderboard"
Edit = Callable[[Facts, Facts], None]
#: Folder, file, and how to tell the record that is edited.
REAL: dict[str, tuple[str, str, Callable[[Facts], bool]]] = {
    "bare": ("", "leaderboard-brainsim2", lambda record: record["defense"]["name"] == "undefended"),
    "guarded": ("", "leaderboard-brainsim-standard", lambda record: "detector" in record["defense"]["parts"]),
    "falling": ("", "leaderboard-lgg-folds", lambda record: "still-falling" in record["diagnostics"]["flags"]),
    "noise": ("", "leaderboard-lgg-folds", lambda record: "noise-hurts" in record["diagnostics"]["flags"]),
    "blind": ("corruptions", "acquisition-brainsim", lambda record: "blind-detector" in record["diagnostics"]["flags"]),
    "single": ("attacks", "attacks", lambda record: record["attack"]["name"] == "apgd"),
}


@cache
def known() -> tuple[Any, list[Metric]]:
    return read_all(BOARD / "splits"), metrics_of(Registry())


@cache
def lines(kind: str) -> tuple[bytes, bytes]:
    """The record and its per-image results."""
    folder, name, wanted = REAL[kind]
    records, outcomes = (
        content(file_of(BOARD / folder / each, name, compressed=False)).splitlines() for each in ("records", "outcomes")
    )
    record = next(line for line in records if wanted(json.loads(line)))
    cell = json.loads(record)["cell_id"]
    return record, next(line for line in outcomes if json.loads(line)["cell_id"] == cell)


def told(kind: str, edit: Edit) -> list[str]:
    record, images = map(json.loads, lines(kind))
    edit(record, images)
    made, (splits, metrics) = parse(json.dumps(record)), known()
    return list(
        faults(made, image_results.parse(json.dumps(images)), splits[str(made.dataset.digest)], metrics, older=False)
    )


def without(flag: str) -> Edit:
    return lambda record, images: record["diagnostics"]["flags"].remove(flag)


def also(flag: str) -> Edit:
    return lambda record, images: record["diagnostics"]["flags"].append(flag)


def flagged(record: Facts, images: Facts) -> None:
    """A classifier alone is said to flag one image, with an interval to match."""
    record["metrics"]["clean_flagged"] = 1 / record["n"]
    record["intervals"]["clean_flagged"] = [0.0001, 0.01]


def no_count(record: Facts, images: Facts) -> None:
    """A share that is none of so many answers."""
    for name in ("detector_tpr", "attacked_flagged"):
        record["metrics"][name] *= 0.95


def narrow(record: Facts, images: Facts) -> None:
    """No image is flagged by mistake, and patients would not count."""
    record["metrics"]["detector_fpr"] = record["metrics"]["clean_flagged"] = 0.0
    for name in ("detector_fpr", "clean_flagged"):
        record["intervals"][name] = [0.0, 0.0567]


def first_rung(record: Facts, images: Facts) -> None:
    """The first attack was given fewer images, and spent as much on all of them."""
    rung = record["rungs"][0]
    rung["gradients_mean"] *= rung["attacked"] / (rung["attacked"] - 1)
    rung["queries_mean"] *= rung["attacked"] / (rung["attacked"] - 1)
    rung["attacked"] -= 1


def noiseless(record: Facts, images: Facts) -> None:
    """Noise did nothing, since the images were wrong before."""
    record["diagnostics"]["flags"].remove("noise-hurts")
    figures = record["diagnostics"]["figures"]
    figures["control_clean_accuracy"] = figures["noise_accuracy"]


FORGED: dict[str, tuple[str, Edit, str]] = {
    "a curve that still fell": ("falling", without("still-falling"), "flag still-falling is not raised"),
    "a curve that did not fall": ("bare", also("still-falling"), "flag still-falling is raised"),
    "gradients that mislead": ("bare", also("black-box-wins"), "flag black-box-wins is raised"),
    "a blind detector": ("blind", without("blind-detector"), "flag blind-detector is not raised"),
    "images that noise breaks": ("noise", without("noise-hurts"), "flag noise-hurts says otherwise"),
    "images that were wrong before": ("noise", noiseless, "control_clean_accuracy is"),
    "a control that no image gives": (
        "bare",
        put("diagnostics", "figures", "noise_accuracy", value=0.12345),
        "no shares of",
    ),
    "images flagged by nothing": ("bare", flagged, "clean_flagged is"),
    "images changed by nothing": ("bare", put("metrics", "attacked_changed", value=0.5), "attacked_changed is"),
    "a change by nothing": ("bare", put("metrics", "purified_rmse", value=0.5), "purified_rmse is"),
    "a share that is no count": ("guarded", no_count, "the interval of detector_tpr does not follow"),
    "an interval without patients": ("guarded", narrow, "the interval of detector_fpr does not follow"),
    "a first rung on fewer images": ("bare", first_rung, "the first rung attacked"),
    "a first rung that broke more": ("bare", put("rungs", 0, "broken", value=1), "the first rung attacked"),
    "half an image at most": ("bare", put("spent", "queries_max", value=0.5), "at most 0.5 queries"),
    "all calls on one image": ("single", put("spent", "gradients_max", value=1e9), "at most 1e+09 gradients"),
    "a single attack on fewer": ("single", put("rungs", 0, "attacked", value=3), "attacked 3 images of"),
    "a single attack that did not run": ("single", put("rungs", 0, "reason", value="no time"), "not to have run"),
    "a single attack with rounds": ("single", put("rungs", 0, "broken", value=1), "as attacks of a ladder have"),
}


@pytest.mark.parametrize("kind", REAL)
def test_the_real_one_is_taken(kind: str) -> None:
    assert told(kind, lambda record, images: None) == []


@pytest.mark.parametrize(("kind", "edit", "why"), FORGED.values(), ids=FORGED)
def test_an_edit_is_seen(kind: str, edit: Edit, why: str) -> None:
    found = told(kind, edit)
    assert any(why in each for each in found), found
