"""Forged marks, attacks and shares of published records: each is an edit of one that the audit takes as it is."""

from __future__ import annotations

import json

import pytest
from helpers.forgery import Edit, Facts, put
from helpers.published import REAL, lines, told

from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import parse
from robustbench_med.reproduction.description import described


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


def fewer(record: Facts, images: Facts) -> None:
    """One client is said to have half of its certificates, without an interval."""
    client = record["clients"][0]
    record["per_client"][client]["certified_accuracy"] /= 2
    record["client_intervals"][client]["certified_accuracy"] = [0.1, 0.9]


def detected(record: Facts, images: Facts) -> None:
    """All attacked images are detected, with an interval to match."""
    record["metrics"]["detector_tpr"], record["intervals"]["detector_tpr"] = 1.0, [0.9, 1.0]


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
    "a client with fewer certificates": ("certified", fewer, "certified_accuracy is"),
    "a smaller gap": ("certified", put("metrics", "certified_gap", value=0.0), "certified_gap is"),
    "a longer mean radius": ("certified", put("metrics", "certified_radius", value=0.9), "certified_radius is"),
    "a mean radius of other clients": (
        "certified",
        put("metrics", "certified_radius", value=0.55),
        "those of the clients give",
    ),
    "more detected than flagged": ("guarded", detected, "detector_tpr is larger than attacked_flagged"),
    "more detected than the curve has": (
        "guarded",
        put("metrics", "detector_tpr_at_5", value=0.95),
        "detector_tpr_at_5 is 0.95, and its ROC curve has at most",
    ),
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


def test_a_reference_may_name_fewer_papers_but_no_others() -> None:
    facts = json.loads(lines("blind")[0])
    assert "; " in (papers := facts["defense"]["reference"]), papers

    def against(reference: str) -> list[str]:
        facts["defense"]["reference"] = reference
        return list(described(parse(json.dumps(facts)), Registry()))

    assert against(papers.partition("; ")[0]) == []
    assert any("defense.reference" in each for each in against(papers + "; Someone et al. 2026"))
    assert any("defense.reference" in each for each in against(""))
