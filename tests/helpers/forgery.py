"""A real submission, what the check and the rerun say of a forged one, and edits that several tests make."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from helpers import trained_toys
from helpers.command import invoke
from helpers.paths import TOY
from robustbench_med.cli.commands.submit import judged
from robustbench_med.datasets.test_split import facts_of, opened
from robustbench_med.grid.config import RunConfig, build
from robustbench_med.leaderboard.sources import image_results
from robustbench_med.leaderboard.sources.submission import Submission, read
from robustbench_med.leaderboard.sources.test_split import TestSplit
from robustbench_med.plugins.registry import Registry
from robustbench_med.records import fairness
from robustbench_med.records.record import Record, flatten, parse
from robustbench_med.records.rerun import request
from robustbench_med.reproduction.audit import computed, metrics_of, outcome_with
from robustbench_med.reproduction.description import planned_id, variants
from robustbench_med.reproduction.verify import Verifier, planned
from robustbench_med.training.loader import Loader

Facts = dict[str, Any]
Edit = Callable[[Facts, Facts], None]
ANOTHER = "Another CPU"
#: At which some images withstand and some do not, and clients differ.
EPS = "1/13"


class MeasuredOnce(Verifier):
    """Forgeries that ask for the same cell are compared with one rerun of it, whose folder is kept."""

    def __init__(self, registry: Registry, device: str, folder: Path) -> None:
        super().__init__(registry, device)
        self.folder = folder
        self.known: dict[str, tuple[Record, Path]] = {}

    def measured(self, record: Record, config: RunConfig, loader: Loader) -> tuple[Record, Path]:
        asked = f"{record.role}, {torch.get_num_threads()} threads, {replace(config, out=Path())}"
        if asked not in self.known:
            out = self.folder / f"rerun-{len(self.known)}"
            self.known[asked] = super().measured(record, replace(config, out=out), loader)
        return self.known[asked]


class Referee:
    """The real submission, and what the check and the rerun say of a forged one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.registry = Registry(files=[TOY])
        self.verifier = MeasuredOnce(self.registry, "cpu", file.parent)
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


def submitted() -> Path:
    """A ladder of a toy defense, measured and submitted in the current folder."""

    def call(*args: str) -> None:
        done = invoke("-p", TOY, *args)
        assert done.exit_code == 0, done.output

    trained_toys.place()
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
    return Path("made/guarded.json").absolute()


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


def sold_as_full(record: Facts, images: Facts) -> None:
    record["attack"]["params_passed"]["preset"] = record["attack"]["params"]["preset"] = "full"
    record["limit"] = None


def permuted(record: Facts, images: Facts) -> None:
    """The same accuracy, with the robust images in another place."""
    for draw in range(len(images["attacked"])):
        images["attacked"][draw] = images["attacked"][draw][::-1]


def relabelled(record: Facts, images: Facts) -> None:
    images["labels"] = images["labels"].translate(str.maketrans("01", "10"))


def reindexed(record: Facts, images: Facts) -> None:
    images["index"] = ",".join(str(2 * row) for row in range(len(images["labels"])))
    del images["patients"], images["sites"]


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
