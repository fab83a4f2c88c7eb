"""Names for people and papers: from plugins into ``names.json``, and from there onto the pages."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
from helpers import board as boards
from helpers.board import record
from helpers.paths import ROOT

from robustbench_med.api import load_defense
from robustbench_med.errors import DataError, UnknownName
from robustbench_med.evaluation.keywords import TrainingOptions
from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.render.page import curves, overview
from robustbench_med.leaderboard.render.page.rerun import TRAINING, commands, snippet
from robustbench_med.leaderboard.render.page.row_names import People
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.names import (
    Named,
    address,
    architecture_of,
    dumped,
    read_names,
    refreshed,
    training_of,
)
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import Spec
from robustbench_med.records.record import Record


def installed(kind: str, name: str) -> Spec:
    return Registry().find(kind, name).spec


def of(
    name: str,
    strategy: str = "fedavg",
    training: dict[str, str] | None = None,
    detector: str = "",
    purifier: str = "",
    **passed: str,
) -> Record:
    parts = {kind: {"name": part} for kind, part in (("detector", detector), ("purifier", purifier)) if part}
    facts = {
        "name": name,
        "params_passed": passed,
        "strategy": {"name": strategy, "params_passed": training or {}},
        "parts": {"strategy": {"name": strategy}, "model": {"name": "resnet"}, **parts},
        "weights": {"digest": "w", "seed": 0},
    }
    return record(defense=facts)


def title(made: Record) -> str:
    names = refreshed({}, installed, [made])
    defense = made.defense
    return People(names).of(boards.entry(f"{defense.name}:x", defense_name=defense.name, records=(made,))).title


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (of("undefended"), "No defense, FedAvg"),
        (of("undefended", "fedprox", preset="few"), "No defense, FedProx"),
        (of("undefended", training={"adversarial": "pgd:steps=3"}), "Adversarial training, FedAvg + PGD"),
        (of("undefended", "pfeddef", {"adversarial": "trades"}), "Adversarial training, pFedDef + TRADES"),
        (of("undefended", "krum", {"malicious": "[sign-flip:factor=10]"}), "No defense, Krum, sign-flip clients"),
        (of("undefended", training={"privacy": "dp:clipping=1"}), "No defense, FedAvg, differential privacy"),
        (
            of("undefended", training={"faults": "[random:1]", "secure_aggregation": "secaggplus", "privacy": "none"}),
            "No defense, FedAvg, unreliable clients, secure aggregation",
        ),
        (of("shielded", purifier="jpeg"), "JPEG compression, FedAvg"),
        (of("shielded", purifier="median", detector="knn"), "Nearest neighbours + Median filter, FedAvg"),
        (of("shielded", purifier="of-nobody"), "of-nobody, FedAvg"),
        (of("shielded", training={"adversarial": "pgd"}, purifier="jpeg"), "JPEG compression, FedAvg + PGD"),
        (of("medfedpure", "fedmoe"), "MedFedPure"),
        (of("medfedpure", "fedmoe", preset="few", ablation="no-detector"), "MedFedPure, without detector"),
        (of("medfedpure", "fedmoe", detector="dram", fpr="0.18"), "MedFedPure, fpr 0.18"),
        (of("of-nobody", ablation="a"), "of-nobody:x"),
        (of("diffpure", purifier="diffpure"), "DiffPure"),
    ],
)
def test_a_row_is_called_after_what_it_does(made: Record, text: str) -> None:
    assert title(made) == text


def test_the_part_that_was_chosen_is_named() -> None:
    made = of("medfedpure", "fedmoe")
    names = refreshed({}, installed, [made, of("shielded", detector="dram", purifier="diffpure"), of("diffpure")])
    for defense, passed, text in (
        ("medfedpure", {"detector": "dram:masks=2"}, "MedFedPure, DRAM masks 2"),
        ("diffpure", {"purifier": {"name": "diffpure", "steps": 10}}, "DiffPure, steps 10"),
        ("medfedpure", {"detector": "]["}, "MedFedPure, ]["),
    ):
        section = made.defense.model_copy(update={"name": defense, "params_passed": passed})
        row = boards.entry("x", defense_name=defense, records=(made.model_copy(update={"defense": section}),))
        assert People(names).of(row).title == text


def test_the_newest_paper_comes_first() -> None:
    made = of("undefended", training={"adversarial": "pgd"})
    called = People(refreshed({}, installed, [made])).of(boards.entry(defense_name="undefended", records=(made,)))
    assert [paper.venue for paper in called.papers] == ["ICLR 2018", "AISTATS 2017"]
    assert called.paper is not None
    assert called.paper.url == "https://arxiv.org/abs/1706.06083"


def test_training_and_architecture_are_said_in_the_words_of_the_field() -> None:
    made = of("undefended", training={"adversarial": "pgd", "malicious": "sign-flip", "privacy": "0.5"})
    names = refreshed({}, installed, [made])
    words = "FedAvg, adversarial training (PGD), sign-flip clients, differential privacy"
    assert (training_of(made, names), architecture_of(made, names)) == (words, "ResNet")
    trades = of("mine", "own", training={"adversarial": "trades:beta=6"})
    assert training_of(trades, {}) == "own, adversarial training (TRADES)", "what nobody named"
    assert architecture_of(record(), {}) == training_of(record(), {}) == "", "what is not recorded"


def test_plain_training_and_adversarial_training_are_compared_with_the_winner() -> None:
    made = {"plus": of("medfedpure-plus"), "robust": of("undefended", training={"adversarial": "pgd"})}
    made |= {"naive": of("undefended"), "filtered": of("shielded", training={"adversarial": "pgd"}, purifier="jpeg")}
    people = People(refreshed({}, installed, made.values()))

    def rows(*worst: float) -> list[Entry]:
        facts = zip(made.items(), worst, strict=True)
        return [
            boards.entry(name, share, defense_name=record.defense.name, records=(record,), track="static")
            for (name, record), share in facts
        ]

    def board(eps: int, *worst: float) -> Board:
        entries = tuple(sorted(rows(*worst), key=lambda row: -row.worst.value if row.worst else 0.0))
        section = Section("s", "static", "ladder:quick", 64, boards.CLIENTS, entries)  # type: ignore[arg-type]
        return replace(boards.board(*entries, eps=eps), sections=(section,))

    four, eight = board(4, 0.8, 0.7, 0.1, 0.3), board(8, 0.6, 0.4, 0.0, 0.2)
    assert [entry.defense for entry in overview.compared(four, people)] == ["robust", "naive"]
    assert [entry.defense for entry in overview.compared(board(4, 0.6, 0.7, 0.1, 0.3), people)] == ["naive"]
    card = overview.card(four, people)
    assert re.findall(r'class="?name"?[^>]*>([^<]+)', card.chart) == [
        "MedFedPure-plus",
        "Adversarial training\N{HORIZONTAL ELLIPSIS}",
        "No defense, FedAvg",
    ]
    lines = re.findall(r'<li class="?(line-\w)"?>([^<]+)', curves.over_eps(four, [four, eight], people))
    assert lines == [
        ("line-a", "MedFedPure-plus"),
        ("line-f", "Adversarial training, FedAvg + PGD"),
        ("line-e", "No defense, FedAvg"),
    ]


def test_names_are_kept_where_a_plugin_is_not_installed(tmp_path: Path) -> None:
    made = of("mine", "fedavg")
    kept = {
        ("defense", "mine"): Named(title="Mine", paper="A paper", venue="X 2026"),
        ("defense", "gone"): Named(title="y"),
    }

    def nothing(kind: str, name: str) -> Spec:
        raise UnknownName(f"{kind} {name}")

    names = refreshed(kept, nothing, [made])
    assert names == {("defense", "mine"): kept["defense", "mine"]}
    path = tmp_path / "names.json"
    path.write_text(dumped(names))
    assert read_names(path) == names
    assert dumped({}) == "{}\n"
    assert read_names(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "names.json"),
        ('{"defense": {"a": {"titel": "A"}}}', "titel"),
        ('{"defense": {"a": {"url": "javascript:alert(1)"}}}', "url"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        read_names(path)


def test_the_committed_names_are_those_of_the_plugins() -> None:
    sources = read_sources(ROOT / "leaderboard")
    assert dumped(refreshed(sources.names, installed, sources.every_record)) == dumped(sources.names)


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("Guo et al. 2018, arXiv:1711.00117; Shin", "https://arxiv.org/abs/1711.00117"),
        ("Kim et al. 2023, arXiv 2209.08412", "https://arxiv.org/abs/2209.08412"),
        ("Rauber et al., JOSS 2020, doi:10.21105/joss.02607", "https://doi.org/10.21105/joss.02607"),
        ("Donoho 1995", ""),
    ],
)
def test_the_address_of_a_paper_is_read_from_its_reference(reference: str, url: str) -> None:
    assert address(reference) == url


def test_a_defense_is_loaded_with_the_options_of_its_record() -> None:
    made = of("undefended", training={"adversarial": "pgd"}, preset='fe"w')
    made = made.model_copy(
        update={"defense": made.defense.model_copy(update={"asked": {"strategy": "fedavg:rounds=1"}})}
    )
    call = ast.parse(snippet(made)).body[1]
    assert isinstance(call, ast.Assign)
    assert isinstance(call.value, ast.Call)
    given = [ast.literal_eval(each) for each in call.value.args]
    assert given == ['undefended:preset=fe"w', "brainsim"]
    named = {each.arg: ast.literal_eval(each.value) for each in call.value.keywords}
    assert named == {"strategy": "fedavg:rounds=1", "train_seed": 0}
    known = set(get_type_hints(TrainingOptions)) | set(load_defense.__annotations__)
    assert {*TRAINING, "partition", "unseen_site", "train_seed"} <= known


def test_data_that_is_not_simulated_needs_a_folder() -> None:
    data = {"name": "lgg", "params_passed": {}, "synthetic": False, "asked": {"dataset": "lgg"}}
    made = [record(f"c{seed}", seed=seed, dataset=data) for seed in (0, 1)]
    assert 'data_root="FOLDER"' in snippet(made[0])
    assert "FOLDER" not in snippet(record())
    ((line,), _) = commands(made)
    assert line.endswith(" --data-root FOLDER --out results/$seed\ndone")
    ((line,), _) = commands(made[:1])
    assert line.endswith(" --data-root FOLDER --out results/c0")


def test_cells_that_differ_in_a_seed_are_measured_in_a_loop() -> None:
    three = [record(f"c{seed}", seed=seed) for seed in (0, 1, 2)]
    asked, missing = commands([*three, record("other", eot=9, draws=7)])
    assert missing == []
    assert len(asked) == 2
    assert asked[0].startswith("for seed in 0 1 2; do\n  rbmed run --train")
    assert asked[0].endswith(" --out results/$seed\ndone")
    assert asked[0].count("--seed $seed") == 1
    assert "--draws 7" in asked[1]
    assert json.dumps(asked)
