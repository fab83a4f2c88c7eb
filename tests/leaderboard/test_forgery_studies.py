"""Forged records of the studies: each is an edit of a published one, and the build or the check refuses it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.command import invoke
from helpers.leaderboard import example
from helpers.paths import ROOT
from helpers.records import ladder_record
from helpers.studies import acquisition, certified, compared, corruption, measured

from robustbench_med.errors import DataError
from robustbench_med.files.jsonl import content, file_of, files_of
from robustbench_med.leaderboard.add import add
from robustbench_med.leaderboard.sources.consistency import check, checked_once
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.studies import read_study
from robustbench_med.leaderboard.sources.submission import Submission
from robustbench_med.leaderboard.sources.test_split import read_all
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.contradictions import contradictions
from robustbench_med.records.record import Record, append, parse
from robustbench_med.reproduction.plausibility import objections

Facts = dict[str, Any]
Edit = Callable[[Facts], None]
FOLDER = ROOT / "leaderboard"
APGD, LINF = {"name": "apgd", "params_passed": {}}, {"norm": "linf", "eps": 4 / 255}
SPLITS = read_all(FOLDER / "splits")
#: Study, file, and how to tell the record that is edited.
REAL = {
    "certified": ("brainsim", lambda record: record["certified"] and record["threat"]["eps"] == 0.5),
    "attacks": (
        "attacks",
        lambda record: (record["attack"]["name"], record["defense"]["name"]) == ("apgd", "shielded"),
    ),
    "control": ("attacks", lambda record: record["attack"]["name"] == "noise"),
    "corruptions": ("corruptions-brainsim", lambda record: record["threat"]["eps"] == 3),
    "acquisition": ("acquisition-brainsim", lambda record: record["attack"]["params"]["steps"] > 0),
}


def real(kind: str) -> tuple[Path, Facts]:
    """Folder of the study, and the record that is edited."""
    file, wanted = REAL[kind]
    study = {"control": "attacks", "acquisition": "corruptions"}.get(kind, kind)
    lines = content(file_of(FOLDER / study / "records", file, compressed=False)).splitlines()
    return FOLDER / study, next(facts for facts in map(json.loads, lines) if wanted(facts))


def put(*path: str | int, value: Any) -> Edit:
    """Another value at a place of the record."""

    def edit(record: Facts) -> None:
        place: Any = record
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


def all_certified(record: Facts) -> None:
    """Everything is certified up to the largest radius."""
    record["metrics"]["certified_accuracy"] = 1.0
    record["intervals"]["certified_accuracy"] = [0.9, 1.0]
    for point in record["certified"]["curve"]:
        point.update(accuracy=1.0, low=0.9, high=1.0)


def more_certified_than_left(record: Facts) -> None:
    all_certified(record)
    record["metrics"]["robust_accuracy"] = 0.5


def raised(record: Facts) -> None:
    record["certified"]["curve"][-1].update(accuracy=0.99, low=0.9, high=1.0)


def certificates_dropped(record: Facts) -> None:
    record["certified"] = None


def contradiction_added(record: Facts) -> None:
    record["certified"]["contradicted"] = list(range(100))


def weaker(record: Facts) -> None:
    """Fewer gradients than the rungs spent."""
    record["spent"]["gradients_mean"] /= 2


def larger_budget(record: Facts) -> None:
    record["budget"]["gradients"] *= 10


def sold_as_attack(record: Facts) -> None:
    record["attack"]["name"] = "momentum"


def wrong_params(record: Facts) -> None:
    record["attack"]["params"]["severity"] = 1


FORGED: dict[str, tuple[str, Edit]] = {
    "more samples than were drawn": ("certified", put("certified", "n", value=100_000)),
    "fewer samples than were drawn": ("certified", put("certified", "n", value=100)),
    "a smaller alpha": ("certified", put("certified", "alpha", value=1e-9)),
    "less noise": ("certified", put("certified", "sigma", value=0.5)),
    "a larger radius": ("certified", put("certified", "largest", value=2.0)),
    "a larger median": ("certified", put("certified", "median", value=0.9)),
    "no chance": ("certified", put("certified", "chance", value=0.0)),
    "abstentions added": ("certified", put("certified", "abstained", value=20)),
    "contradictions of images that are not there": ("certified", contradiction_added),
    "a certified accuracy above the curve": ("certified", put("metrics", "certified_accuracy", value=1.0)),
    "a certified accuracy that is missing": ("certified", put("metrics", "certified_accuracy", value=None)),
    "a curve that rises": ("certified", raised),
    "a curve without points": ("certified", put("certified", "curve", value=[])),
    "more certified than the attack left": ("certified", more_certified_than_left),
    "certificates left out": ("certified", certificates_dropped),
    "a radius of the threat that is smaller": ("certified", put("threat", "eps", value=0.1)),
    "a ladder among certificates": ("certified", put("attack", "name", value="ladder")),
    "fewer gradients": ("attacks", weaker),
    "a larger budget": ("attacks", larger_budget),
    "a smaller budget": ("attacks", put("budget", "gradients", value=5)),
    "without a budget": ("attacks", put("budget", value={"gradients": None, "queries": None})),
    "an attack that left less": ("attacks", put("metrics", "robust_accuracy", value=0.0)),
    "another interval": ("attacks", put("intervals", "robust_accuracy", value=[0.0, 1.0])),
    "more steps than were run": ("attacks", put("attack", "params", "steps", value=1000)),
    "a control renamed": ("control", sold_as_attack),
    "a control with another name of the system": ("control", put("defense", "name", value="shielded")),
    "another access": ("control", put("threat", "access", value="full")),
    "a severity of 5": ("corruptions", put("threat", "eps", value=5.0)),
    "a severity of 7": ("corruptions", put("threat", "eps", value=7.0)),
    "a severity between two": ("corruptions", put("threat", "eps", value=2.6)),
    "a severity of the attack": ("corruptions", wrong_params),
    "another corruption": ("corruptions", put("attack", "params", "name", value="motion")),
    "a balanced accuracy": ("corruptions", put("metrics", "robust_balanced_accuracy", value=0.99)),
    "more patients": ("corruptions", put("patients", value=64)),
    "not of a fold": ("corruptions", put("dataset", "fold", value={"number": 0, "of": 5, "pool": "x"})),
    "measured in the future": ("corruptions", put("created", value="2090-01-01T00:00:00+00:00")),
    "chance sold as a search": ("acquisition", put("attack", "params", "steps", value=0)),
    "a share of the limits": ("acquisition", put("threat", "eps", value=0.5)),
    "an epsilon of privacy": ("acquisition", put("defense", "weights", "federation", "epsilon", value=0.1)),
}


def objected(folder: Path, facts: Facts, registry: Registry) -> list[str]:
    """What the build or the check say of a record; every line of it."""
    record = parse(json.dumps(facts))
    found = list(contradictions(record))
    outcomes = {each.cell_id: each for path in files_of(folder / "outcomes") for each in read_outcomes(path)}
    own = outcomes[record.cell_id]
    try:
        check(record, own, "o")
    except DataError as error:
        found.append(str(error))
    sub = Submission("s", "", None, "", (record,), {own.cell_id: own})  # type: ignore[arg-type]
    return found + list(objections(sub, SPLITS, registry))


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize("kind", REAL)
def test_the_published_ones_add_up(registry: Registry, kind: str) -> None:
    assert objected(*real(kind), registry) == []


@pytest.mark.parametrize(("kind", "edit"), FORGED.values(), ids=FORGED)
def test_a_forgery_is_objected_to(registry: Registry, kind: str, edit: Edit) -> None:
    folder, facts = real(kind)
    edit(facts)
    found = objected(folder, facts, registry)
    assert found
    assert all("\n" not in line and len(line) < 400 for line in found)


def study(root: Path, name: str, *records: Record) -> Path:
    """A leaderboard with records in the folder of a study."""
    example(root)
    for record in records:
        (root / name / "records").mkdir(parents=True, exist_ok=True)
        append(root / name / "records" / "a.jsonl", record)
    return root


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("certified", corruption("a", "jpeg", 3, 0.5)),
        ("certified", ladder_record("a")),
        ("corruptions", certified("a", 0.5, 0.75)),
        ("corruptions", ladder_record("a")),
        ("attacks", acquisition("a", "all", 20, 4, 0.5)),
        ("attacks", ladder_record("a", budget={"gradients": 50})),
    ],
)
def test_a_record_in_the_wrong_folder_is_named(tmp_path: Path, name: str, record: Record) -> None:
    with pytest.raises(DataError, match=rf"a\.jsonl: cell a is not for {name}/, which shows"):
        read_sources(study(tmp_path, name, record))
    results, empty = tmp_path / "results", tmp_path / "empty" / name
    results.mkdir()
    append(results / "records.jsonl", record)
    with pytest.raises(DataError, match="cell a is not for"):
        add(empty, results, "b")
    assert not (empty / "records").exists()


def test_what_contradicts_itself_or_is_of_tomorrow_is_not_added(tmp_path: Path) -> None:
    example(tmp_path)
    for number, (record, told) in enumerate(
        [
            (corruption("a", "jpeg", 3, 0.5).model_copy(update={"created": "2090-01-01T00:00"}), "not over yet"),
            (measured("a", "f", 0.5, APGD, LINF, budget={"gradients": 50}, spent={"gradients_max": 51.0}), "is 50"),
        ]
    ):
        results = tmp_path / f"results{number}"
        results.mkdir()
        append(results / "records.jsonl", record)
        with pytest.raises(DataError, match=told):
            add(tmp_path, results, "b")


def test_a_cell_is_not_there_twice_with_other_results(tmp_path: Path) -> None:
    one = compared("a", "apgd", 0.25, "f")
    two = compared("a", "apgd", 0.5, "f").model_copy(update={"created": "2026-11-25T10:00:00+00:00"})
    with pytest.raises(DataError, match=r"cell a is there twice with other results \(.*robust"):
        read_sources(study(tmp_path, "attacks", one, two))
    checked_once([one, one])
    failed = one.model_copy(update={"status": "failed"})
    checked_once([failed, one])
    # Nor in two folders.
    root = tmp_path / "other"
    study(root, "attacks", one)
    append(root / "records" / "b.jsonl", two)
    with pytest.raises(DataError, match="cell a is there twice"):
        read_sources(root)


def test_two_trainings_of_one_name_are_not_one_system(tmp_path: Path) -> None:
    one, two = corruption("a", "jpeg", 3, 0.5), corruption("b", "gamma", 3, 0.5)
    weights = two.defense.weights.model_copy(update={"digest": "other"})
    two = two.model_copy(update={"defense": two.defense.model_copy(update={"weights": weights})})
    with pytest.raises(DataError, match="cells a and b are of 'undefended' with other weights"):
        read_sources(study(tmp_path, "corruptions", one, two))


def test_a_file_of_published_records_is_checked(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "certified", tmp_path / "certified")
    file = tmp_path / "certified" / "records" / "brainsim.jsonl"
    told = invoke("leaderboard", "check", file, "--root", FOLDER)
    assert (told.exit_code, told.output.count("\n")) == (0, 1), told.output
    assert "6 cells are what their options plan" in told.output
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0] = copy.deepcopy(lines[0])
    lines[0]["attack"]["params"]["steps"] = 1000
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    told = invoke("leaderboard", "check", file, "--root", FOLDER)
    assert told.exit_code == 1
    assert "refused: cell " in told.output
    shutil.rmtree(tmp_path / "certified" / "outcomes")
    told = invoke("leaderboard", "check", file, "--root", FOLDER)
    assert "6 cells have no per-image results" in told.output


def test_images_of_a_study_have_the_labels_of_the_data_set(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "certified", tmp_path / "certified")
    file = tmp_path / "certified" / "outcomes" / "brainsim.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    turn = str.maketrans("01", "10")
    for what in ("labels", "clean", "attacked"):
        given = lines[0][what]
        lines[0][what] = given.translate(turn) if isinstance(given, str) else [each.translate(turn) for each in given]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(DataError, match="gives image 1 the label"):
        read_study(tmp_path / "certified", SPLITS)
