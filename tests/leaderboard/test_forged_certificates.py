"""Forged certificates: each is an edit of a published record, or of a run, and is refused in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.paths import ROOT

from robustbench_med.certification.bounds import largest_radius, lower_bound, radius
from robustbench_med.errors import DataError
from robustbench_med.leaderboard.add import add
from robustbench_med.leaderboard.sources.compact_labels import ABSTAINED
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.test_split import read_all
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.contradictions import contradictions
from robustbench_med.records.record import append, parse
from robustbench_med.reproduction.audit import faults, metrics_of

Facts = dict[str, Any]
FOLDER = ROOT / "leaderboard" / "certified"
LINES = (FOLDER / "records" / "brainsim.jsonl").read_text(encoding="utf-8").splitlines()
(REAL,) = [each for each in map(json.loads, LINES) if each["cell_id"] == "3d1c6875fb3268de"]


def of(alpha: float, n: int, sigma: float) -> Callable[[Facts], None]:
    """Certificates by other samples, every figure to match, for a system of this noise."""

    def edit(record: Facts) -> None:
        how, largest = record["certified"], largest_radius(n, alpha, sigma)
        how.update(alpha=alpha, n=n, sigma=sigma, largest=largest, median=largest)
        how["chance"] = min(1.0, 2 * alpha * record["n"])
        for step, point in enumerate(how["curve"]):
            point["radius"] = largest * step / 12
        record["metrics"]["certified_accuracy"] = how["curve"][-1]["accuracy"]

    return edit


def purifier(**change: Any) -> Callable[[Facts], None]:
    return lambda record: record["defense"]["parts"]["purifier"]["params"].update(change)


def bare(record: Facts) -> None:
    record["defense"]["parts"]["purifier"] = None


def guarded(record: Facts) -> None:
    record["defense"]["parts"]["detector"] = {"name": "mae", "params": {}, "revision": 1}


def certified(**change: Any) -> Callable[[Facts], None]:
    return lambda record: record["certified"].update(change)


def stretched(record: Facts) -> None:
    """The accuracy of a small radius is shown at a larger one."""
    record["certified"]["curve"][-2]["radius"] = record["certified"]["curve"][-1]["radius"] - 1e-3


def half_an_image(record: Facts) -> None:
    record["certified"]["curve"][-1]["accuracy"] -= 0.5 / record["n"]


def in_linf(record: Facts) -> None:
    record["threat"]["norm"] = "linf"


def above_the_attack(record: Facts) -> None:
    record["metrics"]["robust_accuracy"] = 0.5


def silent(record: Facts) -> None:
    """A contradicted certificate without its flag."""
    record["certified"]["contradicted"] = [1]


def withheld(record: Facts) -> None:
    record["certified"]["abstained"], record["metrics"]["certified_abstained"] = 40, 40 / 64


REFUSED: dict[str, tuple[Callable[[Facts], None], str]] = {
    "a large alpha and few samples": (of(0.4, 10, 0.25), r"fails with a chance of 0\.4; at most 0\.001"),
    "an alpha of ten times": (of(0.01, 500, 0.25), r"fails with a chance of 0\.01"),
    "noise of another size": (of(0.001, 500, 0.5), r"of noise of 0\.5, and the purifier adds noise of 0\.25"),
    "noise of another size, as a text": (purifier(sigma="0.5"), "adds noise of 0.5"),
    "noise of another size, as a whole number": (purifier(sigma=1), "adds noise of 1"),
    "noise that is no number": (purifier(sigma="loud"), "adds noise of loud"),
    "no noise at all": (bare, "need a purifier that adds noise"),
    "a detector before the noise": (guarded, "and no detector"),
    "another procedure": (certified(method="interval bounds"), "certificates by 'interval bounds'"),
    "another revision": (certified(revision=2), "revision 2; this version checks revision 1"),
    "a median that no count gives": (certified(median=0.4242), "which no count of 500 samples gives"),
    "a radius of the curve moved": (stretched, "in 12 equal steps"),
    "half an image certified": (half_an_image, "is no share of 64 images"),
    "a radius in another norm": (in_linf, "is not for certified/, which shows single attacks in l2 only"),
    "more certified than withstood": (above_the_attack, "are certified and 0.5 withstood"),
    "a contradiction without its flag": (silent, "certificate-contradicted says otherwise"),
    "most images without a radius": (withheld, "40 of 64 images have none"),
}


@pytest.mark.parametrize(("edit", "told"), REFUSED.values(), ids=REFUSED)
def test_a_record_that_contradicts_itself_is_not_added(
    tmp_path: Path, edit: Callable[[Facts], None], told: str
) -> None:
    facts = copy.deepcopy(REAL)
    edit(facts)
    append(tmp_path / "records.jsonl", parse(json.dumps(facts)))
    with pytest.raises(DataError, match=told) as caught:
        add(tmp_path / "certified", tmp_path, "b")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "certified").exists()


def test_the_real_one_is_added(tmp_path: Path) -> None:
    record = parse(json.dumps(REAL))
    assert list(contradictions(record)) == []
    append(tmp_path / "records.jsonl", record)
    assert add(tmp_path / "certified", tmp_path, "b") == (1, 0)


def outcome() -> ImageResults:
    (found,) = [
        each for each in read_outcomes(FOLDER / "outcomes" / "brainsim.jsonl") if each.cell_id == REAL["cell_id"]
    ]
    return found


def audited(facts: Facts, told: ImageResults) -> list[str]:
    record, splits = parse(json.dumps(facts)), read_all(ROOT / "leaderboard" / "splits")
    return list(faults(record, told, splits[record.dataset.digest or ""], metrics_of(Registry())))


def test_abstentions_and_contradictions_are_those_of_the_images() -> None:
    assert audited(REAL, outcome()) == []
    facts, told = copy.deepcopy(REAL), outcome()
    facts["certified"]["abstained"], facts["metrics"]["certified_abstained"] = 2, 2 / 64
    assert any("said to have no certificate, and the system abstained on 0" in each for each in audited(facts, told))
    told.clean[0, 0] = ABSTAINED  # an abstention that was dropped
    assert any("0 images are said to have no certificate" in each for each in audited(REAL, told))
    facts = copy.deepcopy(REAL)
    facts["certified"]["contradicted"] = [outcome().index[0]]
    assert any("and no attack broke it" in each for each in audited(facts, outcome()))
    facts = copy.deepcopy(REAL)
    facts["certified"]["curve"][3]["low"] = facts["certified"]["curve"][3]["accuracy"]
    assert any("interval of the certified accuracy" in each for each in audited(facts, outcome()))


def run(folder: Path, change: Callable[[pd.DataFrame, Facts], None]) -> Path:
    """Results whose images have the radii of the record, after a change of either."""
    facts, n = copy.deepcopy(REAL), REAL["n"]
    facts["metrics"] |= {"clean_accuracy": 1.0, "robust_accuracy": 1.0, "certified_accuracy": 0.75}
    facts["intervals"] |= {name: [0.6, 1.0] for name in facts["metrics"] if name.endswith("_accuracy")}
    hits = np.where(np.arange(n) < n // 4, 480, 500)
    bounds = lower_bound(hits, 500, 0.001)
    radii = radius(bounds, 0.25)
    how = facts["certified"]
    how.update(median=float(np.sort(radii)[(n - 1) // 2]), abstained=0)
    for point in how["curve"]:
        share = float((radii >= point["radius"] * (1 - 1e-9)).mean())
        point.update(accuracy=share, low=share * 0.9, high=min(1.0, share * 1.05))
    labels, zeros = np.arange(n) % 2, np.zeros(n)
    frame = pd.DataFrame({"index": np.arange(n), "label": labels, "draw": 0, "distance": zeros + 0.5})
    for side in ("clean", "attacked"):
        frame = frame.assign(**{f"{side}_prediction": labels, f"{side}_rejected": False, f"{side}_score": np.nan})
    frame = frame.assign(certified_radius=radii, certified_p_lower=bounds)
    change(frame, facts)
    (folder / "samples").mkdir()
    frame.to_parquet(folder / "samples" / f"{facts['cell_id']}.parquet")
    append(folder / "records.jsonl", parse(json.dumps(facts)))
    return folder


def widened(frame: pd.DataFrame, facts: Facts) -> None:
    frame.loc[:3, "certified_radius"] += 0.1


def better_bounds(frame: pd.DataFrame, facts: Facts) -> None:
    frame.loc[:3, "certified_p_lower"] = 0.97
    frame.loc[:3, "certified_radius"] = radius(np.full(4, 0.97), 0.25)


def dropped(frame: pd.DataFrame, facts: Facts) -> None:
    """Images that the system gave no certificate are counted as certified."""
    frame.loc[:1, "certified_p_lower"] = lower_bound(np.array([200, 200]), 500, 0.001)
    frame.loc[:1, "certified_radius"] = 0.0


def lower(frame: pd.DataFrame, facts: Facts) -> None:
    facts["certified"]["curve"][-1].update(accuracy=0.5, low=0.4)


def broken_inside(frame: pd.DataFrame, facts: Facts) -> None:
    frame.loc[60, ["attacked_prediction", "distance"]] = [1 - frame.loc[60, "label"], 0.1]
    facts["metrics"]["robust_accuracy"] = 63 / 64


def without(frame: pd.DataFrame, facts: Facts) -> None:
    frame.pop("certified_radius")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (widened, r"a radius does not follow from its bound and noise of 0\.25"),
        (better_bounds, r"that of no count of 500 samples at alpha 0\.001"),
        (dropped, "images without a certificate are not those that the system abstains on"),
        (lower, "the curve of certified accuracy does not follow from the radii"),
        (broken_inside, "1 image was broken inside its radius, and the record says 0"),
        (without, "cannot be read: 'certified_radius'"),
    ],
)
def test_radii_of_a_run_give_the_certificates_of_its_record(
    tmp_path: Path, change: Callable[[pd.DataFrame, Facts], None], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        add(tmp_path / "certified", run(tmp_path, change), "b")


def test_radii_that_give_the_certificates_are_added(tmp_path: Path) -> None:
    assert add(tmp_path / "certified", run(tmp_path, lambda frame, facts: None), "b") == (1, 1)
