"""Forged submissions: each is an edit of a real one, and each is refused by the check or not verified by a rerun."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.paths import ROOT, TOY
from typer.testing import CliRunner

from robustbench_med.cli.commands.submit import judged
from robustbench_med.cli.main import app
from robustbench_med.datasets.test_split import facts_of, opened
from robustbench_med.errors import DataError, UsageError
from robustbench_med.grid.config import build
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.sources import image_results
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.folder import with_known_labels
from robustbench_med.leaderboard.sources.image_results import ImageResults, differences
from robustbench_med.leaderboard.sources.submission import Submission, read
from robustbench_med.leaderboard.sources.test_split import TestSplit
from robustbench_med.plugins.registry import Registry
from robustbench_med.records import fairness
from robustbench_med.records.record import flatten, parse
from robustbench_med.records.rerun import request
from robustbench_med.reproduction.audit import metrics_of, outcome_with
from robustbench_med.reproduction.description import planned_id, variants
from robustbench_med.reproduction.verify import Verifier, planned
from robustbench_med.runner.measured import computed

Facts = dict[str, Any]
Edit = Callable[[Facts, Facts], None]
ANOTHER = "Another CPU"
#: At which some images withstand and some do not, and clients differ.
EPS = "1/13"


class Referee:
    """The real submission, and what the check and the rerun say of a forged one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.registry = Registry(files=[TOY])
        self.verifier = Verifier(self.registry, "cpu")
        self.split = TestSplit(**facts_of(opened(self.registry, "stripes", None, None)))

    def forged(self, edit: Edit) -> Submission:
        """The submission after an edit of its record and its per-image results."""
        facts = json.loads(self.file.read_text())
        edit(facts["records"][0], facts["outcomes"][0])
        return self.written(facts)

    def written(self, facts: Facts) -> Submission:
        target = self.file.with_name(f"forged-{self.file.name}")
        target.write_text(json.dumps(facts | {"name": target.stem}))
        return read(target)

    def objections(self, forged: Submission) -> tuple[str, ...]:
        return judged(forged, {}, {self.split.digest: self.split}, self.registry, None).refused

    def verdict(self, forged: Submission) -> tuple[str, tuple[str, ...]]:
        (record,) = forged.records
        finding = self.verifier.verify(record, images=forged.outcomes.get(record.cell_id))
        return finding.verdict, finding.notes

    def identify(self, record: Facts, images: Facts) -> None:
        """The id that the edited record has to have."""
        made = parse(json.dumps(record))
        config = build({**request(made), "device": "cpu", "data_root": Path(), "out": Path()})
        cells = variants(planned(made, config, self.registry))
        cell = next(cell for cell in cells if len(cell.rungs) == len(made.attack.rungs))
        record["cell_id"] = images["cell_id"] = planned_id(cell, made)

    def recompute(self, record: Facts, images: Facts) -> None:
        """What a careful forger does: every figure again from the edited answers."""
        told = image_results.parse(json.dumps(images))
        outcome, metrics = outcome_with(told, self.split, 0), metrics_of(self.registry)
        figures, bounds = flatten(computed(outcome, metrics))
        known = {name for name in figures if name in record["metrics"] and not name.startswith("detector")}
        record["metrics"] |= {name: figures[name] for name in known}
        record["intervals"] |= {name: bounds[name] for name in known & bounds.keys() & record["intervals"].keys()}
        for client in record["clients"]:
            own, between = flatten(computed(outcome.at(client), metrics))
            record["per_client"][client] |= {name: own[name] for name in known}
            kept = record["client_intervals"][client]
            kept |= {name: between[name] for name in known & between.keys() & kept.keys()}
        record["worst_client"] = fairness.worst_client(record["per_client"])
        record["between_clients"] = fairness.between(record["per_client"])
        ran = [rung for rung in record["rungs"] if not rung["reason"]]
        ran[-1]["withstanding"] = record["metrics"]["robust_accuracy"]


@pytest.fixture(scope="module")
def referee(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Referee]:
    """A ladder of a toy defense, measured and submitted in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(tmp_path_factory.mktemp("home")))
        patch.chdir(tmp_path_factory.mktemp("work"))

        def call(*args: str) -> None:
            done = CliRunner().invoke(app, ["-p", str(TOY), *args])
            assert done.exit_code == 0, done.output

        for defense in ("guarded", "bare"):
            call("train", defense, "--dataset", "stripes")
        cell = (
            "--dataset",
            "stripes",
            "--baseline",
            "",
            "--surrogate",
            "bare",
            "--eps",
            EPS,
            "--access",
            "ladder:standard",
        )
        call("run", "--defense", "guarded", *cell, "--draws", "3", "--out", "results")
        paper = ("--paper", "https://example.org/guard", "--root", "empty", "--out", "made")
        call("submit", "results", "--defense", "guarded", *paper)
        yield Referee(Path("made/guarded.json").absolute())


def test_the_real_one_is_taken_and_verified(referee: Referee) -> None:
    real = referee.forged(lambda record, images: None)
    (record,) = real.records
    low, high = sorted(record.per_client[site]["robust_accuracy"] or 0.0 for site in record.clients)
    assert 0 < low < high < 1  # else some edits would change nothing
    assert referee.objections(real) == ()
    assert referee.verdict(real) == ("identical", ())


def elsewhere(record: Facts) -> None:
    record["provenance"]["hardware"]["processor"] = ANOTHER


def perfect(record: Facts, images: Facts) -> None:
    """Accuracies 1, intervals [0, 1], another processor, outcomes to match."""
    elsewhere(record)
    for name in record["intervals"]:
        record["intervals"][name] = [0.0, 1.0]
    for side in ("clean", "attacked"):
        record["metrics"][f"{side.replace('attacked', 'robust')}_accuracy"] = 1.0
        images[side] = [images["labels"]] * len(images[side])


def wide(record: Facts, images: Facts) -> None:
    record["intervals"]["robust_accuracy"] = [0.0, 1.0]


def narrow(record: Facts, images: Facts) -> None:
    value = record["metrics"]["robust_accuracy"]
    record["intervals"]["robust_accuracy"] = [value, value]


def sold_as_full(record: Facts, images: Facts) -> None:
    record["attack"]["params_passed"]["preset"] = record["attack"]["params"]["preset"] = "full"
    record["limit"] = None


def sold_as_full_with_rungs(record: Facts, images: Facts) -> None:
    sold_as_full(record, images)
    for rung in record["attack"]["rungs"]:
        if rung["name"] == "apgd":
            rung["params"]["steps"], rung["params_passed"] = 100, {}
    for rung in record["rungs"]:
        rung["rung"] = rung["rung"].replace(":steps=20", "").replace(":steps=10", "")


def permuted(record: Facts, images: Facts) -> None:
    """The same accuracy, with the robust images in another place."""
    for draw in range(len(images["attacked"])):
        images["attacked"][draw] = images["attacked"][draw][::-1]


def relabelled(record: Facts, images: Facts) -> None:
    images["labels"] = images["labels"].translate(str.maketrans("01", "10"))


def all_relabelled(record: Facts, images: Facts) -> None:
    """Labels and answers turned over: every accuracy stays."""
    turn = str.maketrans("01", "10")
    images["labels"] = images["labels"].translate(turn)
    for side in ("clean", "attacked"):
        images[side] = [draw.translate(turn) for draw in images[side]]


def reindexed(record: Facts, images: Facts) -> None:
    images["index"] = ",".join(str(2 * row) for row in range(len(images["labels"])))
    del images["patients"], images["sites"]


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


def put(*path: str | int, value: Any) -> Edit:
    """Another value at a place of the record."""

    def edit(record: Facts, images: Facts) -> None:
        place: Any = record
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


def gone(*path: str) -> Edit:
    def edit(record: Facts, images: Facts) -> None:
        place: Any = record
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return edit


def metric(name: str, value: float, client: str | None = None) -> Edit:
    def edit(record: Facts, images: Facts) -> None:
        (record["metrics"] if client is None else record["per_client"][client])[name] = value

    return edit


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


def careful(change: Edit) -> Callable[[Referee], Edit]:
    """The edit of the images, and every figure computed again from them."""

    def made(referee: Referee) -> Edit:
        def edit(record: Facts, images: Facts) -> None:
            change(record, images)
            referee.recompute(record, images)

        return edit

    return made


def withstands(record: Facts, images: Facts) -> None:
    images["attacked"] = copy.deepcopy(images["clean"])


def withholds(record: Facts, images: Facts) -> None:
    images["attacked"] = ["-" * len(draw) for draw in images["attacked"]]


def one_more(record: Facts, images: Facts) -> None:
    """Within sampling error, on another CPU."""
    elsewhere(record)
    for draw, told in enumerate(images["attacked"]):
        at = next(at for at, (one, label) in enumerate(zip(told, images["labels"], strict=True)) if one != label)
        images["attacked"][draw] = told[:at] + images["labels"][at] + told[at + 1 :]


def plain(edit: Edit) -> Callable[[Referee], Edit]:
    return lambda referee: edit


def spent_more(record: Facts, images: Facts) -> None:
    record["rungs"][0]["gradients_mean"] += 100
    record["spent"]["gradients_mean"] += 100 * record["rungs"][0]["attacked"] / record["n"]


def identified(change: Edit) -> Callable[[Referee], Edit]:
    """The edit, with the id that the cell has then."""

    def made(referee: Referee) -> Edit:
        def edit(record: Facts, images: Facts) -> None:
            change(record, images)
            referee.identify(record, images)

        return edit

    return made


UNVERIFIED: dict[str, Callable[[Referee], Edit]] = {
    "every attacked image withstands": careful(withstands),
    "every attacked image is withheld": careful(withholds),
    "robust images in another place": careful(permuted),
    "one more image withstands, on another CPU": careful(one_more),
    "a better detector": plain(metric("detector_auroc", 0.999)),
    "another ROC curve": plain(lambda record, images: images.update(roc=[[0.0, 1.0], [1.0, 1.0]])),
    "other sizes of networks": plain(put("defense", "parameters", value={"classifier": 1})),
    "another training seed": plain(put("defense", "weights", "seed", value=1)),
    "more gradients spent, on rungs too": plain(spent_more),
    "a control with another result": plain(put("diagnostics", "figures", "noise_accuracy", value=0.123)),
    "a flag taken away": plain(put("diagnostics", "flags", value=[])),
    "an image that another rung broke": plain(put("rungs", 0, "broken", value=0)),
    "the results of another seed": identified(put("seed", value=1)),
    "the results at a smaller eps": identified(put("threat", "eps", value=0.2)),
    "a perfect detector": plain(metric("detector_tpr", 1.0)),
}


@pytest.mark.parametrize("make", UNVERIFIED.values(), ids=UNVERIFIED)
def test_a_forgery_that_adds_up_is_not_verified(referee: Referee, make: Callable[[Referee], Edit]) -> None:
    verdict, notes = referee.verdict(referee.forged(make(referee)))
    assert verdict in ("differs", "within", "digest", "impossible")
    assert notes


def test_a_flag_is_not_taken_away_by_another_cpu(referee: Referee) -> None:
    def edit(record: Facts, images: Facts) -> None:
        elsewhere(record)
        assert record["diagnostics"]["flags"]
        record["diagnostics"]["flags"] = []

    assert referee.verdict(referee.forged(edit))[0] == "differs"


def test_an_archived_record_is_not_submitted_again(referee: Referee) -> None:
    facts = json.loads(referee.file.read_text())
    line = (ROOT / "leaderboard" / "archive" / "records" / "ladder-brainsim.jsonl").read_text().splitlines()[0]
    facts |= {"defense": json.loads(line)["defense"]["name"], "records": [json.loads(line)], "outcomes": []}
    refused = " ".join(referee.objections(referee.written(facts)))
    assert "measured with revision 1 of the ladder" in refused
    assert "does not hold the options of its run" in refused


def test_evidence_of_another_data_set_is_refused(referee: Referee) -> None:
    """Its rows have other labels, or are not there."""
    real = referee.forged(lambda record, images: None)
    (record,), (told,) = real.records, real.outcomes.values()
    splits = {referee.split.digest: referee.split}

    def handed_in(images: ImageResults) -> Evidence:
        return Evidence("e", record.cell_id, "sharper", Paper("P", "https://example.org"), "0" * 64, images, images)

    taken = with_known_labels(handed_in(told), record, splits, {}, "e")
    assert taken.outcome.sites == referee.split.sites
    with pytest.raises(DataError, match="the label"):
        with_known_labels(handed_in(replace(told, labels=1 - told.labels)), record, splits, {}, "e")
    further = replace(told, index=tuple(row + 1 for row in told.index))
    with pytest.raises(DataError, match="has image 24; there are 24"):
        with_known_labels(handed_in(further), record, splits, {}, "e")


def test_larger_lesions_are_not_verified() -> None:
    """Results by size of the lesion come from these sizes."""
    labels = np.zeros(2, dtype=np.int8)
    one = ImageResults("0", (0, 1), labels, labels[None], labels[None], lesions={"radius": (4.0, 9.0)})
    assert differences(one, one) == []
    assert differences(replace(one, lesions={"radius": (14.0, 9.0)}), one) == ["radius of the lesions differs"]
    assert differences(one, replace(one, lesions={})) == ["radius of the lesions differs"]


@pytest.mark.parametrize(
    "edit", [perfect, permuted, reindexed, relabelled, sold_as_full], ids=lambda edit: edit.__name__
)
def test_what_the_check_refuses_is_not_verified_either(referee: Referee, edit: Edit) -> None:
    assert referee.verdict(referee.forged(edit))[0] not in ("identical", "within")


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


def test_results_of_other_cells_are_refused(referee: Referee) -> None:
    facts = json.loads(referee.file.read_text())
    facts["outcomes"].append({**facts["outcomes"][0], "cell_id": "abc"})
    assert any("not submitted" in each for each in referee.objections(referee.written(facts)))
