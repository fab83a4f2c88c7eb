"""``rbmed reproduce``: a published table beside ours, from images to the page."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from helpers.command import invoke
from helpers.distributions import distribution
from PIL import Image

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter, UnknownName, UsageError
from robustbench_med.grid.cell import Cell
from robustbench_med.grid.plan import plan
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import read
from robustbench_med.reproduction.published import Study, configs, find
from robustbench_med.training import estimate

Call = Callable[..., Result]
PLUGIN = """
    from robustbench_med import DefenseSpec, hookimpl

    @hookimpl
    def rbmed_defenses():
        for name in ("tiny", "broken", "absent"):
            yield DefenseSpec(
                name=name, target="rbmed_medfedpure.recipes.medfedpure:MedFedPure", summary="A tiny table",
                reproduction=f"tiny_tables:{name}.toml",
            )
"""
MOMENT = "rounds=1,local_epochs=1"
MIXTURE = f"strategy=[fedmoe:{MOMENT}],model=[moe:width=8]"
AROUND = f"detector=[mae:width=16,decoder_width=16,depth=1,decoder_depth=1,training=[fedavg:{MOMENT}]]"
NETWORK = f"purifier=[ddim:width=8,levels=2,training=[fedavg:{MOMENT}]]"
TABLE = f"""
title = "A tiny table"
source = "Unknown, 2025"
note = "Nothing is learned in a moment."

[size]
small = 32
paper = 48

[run]
dataset = "imagefolder"
partition = "dirichlet:clients=2,alpha=100"
attack = ["pgd:steps=2", "clamp"]
access = "oblivious"
eps = 0.015
draws = 1
diagnostics = "off"
surrogate = "undefended:model=[resnet:width=8],strategy=[fedavg:{MOMENT}]"

[adaptive]
access = "ladder:quick"
attack = "apgd:steps=2"
limit = 4

[[row]]
name = "bare"
defense = "undefended:model=[resnet:width=8],strategy=[fedavg:{MOMENT}]"
published = {{ clean = 98.33, attacked = 49.50 }}

[[row]]
name = "whole"
defense = "medfedpure:{MIXTURE},{AROUND},{NETWORK}"
published = {{ clean = 97.67, attacked = 87.33 }}

[[row]]
name = "random"
defense = "medfedpure:ablation=random-detector,{MIXTURE},{NETWORK}"
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Br35H's layout: noise, with a bright disk in ``yes``."""
    root = tmp_path_factory.mktemp("images") / "Br35H"
    chance = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    for name in ("yes", "no", "pred"):
        (root / name).mkdir(parents=True)
        for number in range(20):
            picture = chance.integers(20, 120, (40, 40))
            if name == "yes":
                row, column = chance.integers(12, 28, 2)
                picture[(y - row) ** 2 + (x - column) ** 2 < 36] += 100
            Image.fromarray(picture.astype(np.uint8)).save(root / name / f"{name}{number}.png")
    return root


@pytest.fixture(scope="module")
def rbmed_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """Call ``rbmed`` in a folder of its own, where a distribution ships tables."""
    folder = tmp_path_factory.mktemp("site")
    distribution(folder, "rbmed-ttiny", PLUGIN)
    tables = folder / "tiny_tables"
    tables.mkdir()
    (tables / "__init__.py").touch()
    (tables / "tiny.toml").write_text(TABLE)
    (tables / "broken.toml").write_text(TABLE.replace("clean = 98.33", "clean = 198"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("RBMED_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("COLUMNS", "160")
        patch.delenv("RBMED_DATA", raising=False)
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setattr("robustbench_med.cli.console.out.width", 140)  # else words may be folded
        yield lambda *args: invoke("reproduce", *args)
    for name in [name for name in sys.modules if name.startswith(("rbmed_ttiny", "tiny_tables"))]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def first(rbmed_: Call, images: Path) -> Result:
    """The whole table, everything trained on the way."""
    done = rbmed_("tiny", "--data-root", str(images), "--device", "cpu")
    assert done.exit_code == 0, done.output
    return done


def test_the_papers_rows_stand_beside_ours_and_the_worst_case(first: Result) -> None:
    lines = first.stdout.splitlines()
    assert lines[0].strip().startswith("A tiny table   imagefolder at 32 px   dirichlet:clients=2,alpha=100   pgd")
    assert lines[1].split("  ")[0].strip() == "defense"
    for words in ("paper clean", "paper attacked", "pgd", "clamp", "FPR/TPR", "ladder, worst"):
        assert words in lines[1]
    rows = {line.split()[0]: line.split() for line in lines[3:6]}
    assert rows["bare"][1:3] == ["98.33", "49.50"]
    assert rows["whole"][1:3] == ["97.67", "87.33"]
    records = list(read(Path("results") / "reproduce-tiny" / "records.jsonl"))
    seen = [(r.defense.name, r.attack.name, r.threat.access, r.status) for r in records]
    names = ("undefended", "medfedpure", "medfedpure")
    assert seen == [(name, attack, "oblivious", "ok") for name in names for attack in ("pgd", "clamp")] + [
        (name, "ladder", "ladder", "ok") for name in names
    ]
    assert rows["whole"][3] == f"{100 * records[2].metrics['clean_accuracy']:.1f}"
    assert rows["random"][-2:] == [f"{records[4].n},", "4"]
    assert all(record.threat.eps == 0.015 for record in records)
    for words in ("Unknown, 2025", "clamp: control", "ladder:quick", "Nothing is learned in a moment."):
        assert words in first.stdout


def test_the_worst_case_is_never_above_the_papers_attack(first: Result) -> None:
    records = list(read(Path("results") / "reproduce-tiny" / "records.jsonl"))
    for ladder in records[6:]:
        left = [rung.withstanding for rung in ladder.rungs if not rung.reason]
        # Judged on fresh noise after each rung, the share of a system with noise may rise a little.
        assert all(later <= earlier + 0.1 for earlier, later in itertools.pairwise(left))
        names = [rung.rung for rung in ladder.rungs]
        assert len(names) == len(set(names))
        assert {name.split()[1] for name in names} == {"apgd:steps=2", "square:queries=100,resc_schedule=true"}


def test_the_page_holds_the_same_table(first: Result) -> None:
    text = (Path("results") / "reproduce-tiny" / "table.md").read_text()
    assert text.startswith("# A tiny table\n")
    row = next(line for line in text.splitlines() if line.startswith("| whole |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    for cell in filter(None, cells):
        assert cell in first.stdout
    assert "Unknown, 2025" in text


def test_each_missing_part_is_told_once_and_trained_once(first: Result, images: Path) -> None:
    told = [line.split(":")[1].strip() for line in first.stderr.splitlines() if line.startswith("to train")]
    assert told == [
        "classifier with fedavg",
        "classifier with fedmoe",
        "purifier with fedavg",
        "detector with fedavg",
    ]
    assert "training takes about" in first.stderr
    registry = Registry()
    study = Study(find(registry, "tiny"), {"data_root": images, "device": "cpu"}, registry=registry)
    trained = [cell.trained for cells in study.cells for cell in cells]
    assert estimate.missing(study.runners[0].loader, trained) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("nothing",), "unknown defense 'nothing'"),
        (("undefended",), "ships no reproduction; valid: "),
        (("broken",), "reproduction tiny_tables:broken.toml of defense 'broken'"),
        (("absent",), "reproduction tiny_tables:absent.toml of defense 'absent'"),
        (("tiny",), "needs its images: give --data-root FOLDER"),
        (("tiny", "--data-root", "nowhere"), "is not a folder"),
        (("tiny", "--preset", "huge"), "unknown --preset 'huge'; valid: small, paper"),
        (("tiny", "--partition", "pizza"), "unknown --partition 'pizza'"),
        (("tiny", "--device", "abacus"), "unknown device 'abacus'"),
        (("tiny", "--limit", "0"), "--limit"),
    ],
)
def test_bad_usage_is_one_line_exit_2_and_leaves_nothing(
    rbmed_: Call, images: Path, args: tuple[str, ...], words: str
) -> None:
    root = () if len(args) == 1 or "--data-root" in args else ("--data-root", str(images))
    done = rbmed_(*args, *root, "--out", "bad")
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not Path("bad").exists()


def test_the_shipped_table_is_the_papers() -> None:
    registry = Registry()
    reproduction = find(registry, "medfedpure")
    assert [row.published.model_dump() if row.published else None for row in reproduction.row][:2] == [
        {"clean": 98.33, "attacked": 49.50},
        {"clean": 97.67, "attacked": 87.33},
    ]
    exact, ladder = configs(reproduction, {})
    cells = [cell for cell in plan(exact, registry) if isinstance(cell, Cell)]
    attack = next(cell for cell in cells if cell.attack.name == "pgd")
    assert dict(attack.attack.params) == {"steps": "7", "step_size": "0.003"}
    assert {cell.attack.name for cell in cells} == {"pgd", "clamp"}
    assert len(cells) == 2 * len(reproduction.row)
    for cell in [*cells, *plan(ladder, registry)]:
        assert isinstance(cell, Cell)
        if cell.attack.name == "ladder":
            assert "attack" not in cell.attack.params  # those of the ladder, stronger than the paper's
        assert (cell.threat.norm, cell.threat.eps) == ("linf", 0.015)
        assert dict(cell.dataset.params) == {"size": "64"}
        partition = cell.trained.partition
        assert partition is not None
        assert (partition.name, dict(partition.params)) == ("dirichlet", {"clients": "10", "alpha": "0.4"})


def test_presets_reach_every_defense_and_set_the_size() -> None:
    reproduction = find(Registry(), "medfedpure")
    exact, ladder = configs(reproduction, {"limit": 20}, preset="paper")
    assert all(":preset=paper" in str(ref) for ref in (*exact.defense, exact.surrogate, *ladder.defense))
    assert exact.dataset == ("imagefolder:size=224",)
    assert (exact.limit, ladder.limit) == (20, 20)
    assert configs(reproduction, {}, preset="paper", size=64)[0].dataset == ("imagefolder:size=64",)
    assert configs(reproduction, {}, adaptive_limit=7)[1].limit == 7
    with pytest.raises(BadParameter, match="unknown --preset"):
        configs(reproduction, {}, preset="large")


def test_finding_names_what_there_is() -> None:
    with pytest.raises(UnknownName, match="unknown defense"):
        find(Registry(), "medfedpuer")
    with pytest.raises(UsageError, match=r"ships no reproduction; valid: .*medfedpure"):
        find(Registry(), "undefended")


def test_an_estimate_counts_rounds_epochs_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("robustbench_med.training.estimate.time.perf_counter", lambda: clock.now)

    class Clockwork(rbmed.Strategy):
        """Takes 3 s for a round and 0.5 s for an image."""

        class Params(rbmed.Params):
            rounds: int = rbmed.Field(4, description="Rounds.")
            local_epochs: int = rbmed.Field(2, description="Epochs.")
            batch_size: int = rbmed.Field(64, description="Batch.")

        def train(self, build: Any, clients: Mapping[str, rbmed.Split], job: rbmed.TrainJob) -> rbmed.Federated:
            epochs = self.params.rounds * self.params.local_epochs
            clock.now += 3.0 * self.params.rounds + 0.5 * epochs * sum(map(len, clients.values()))
            return rbmed.Federated({})

    def split(n: int) -> rbmed.Split:
        return rbmed.Split(torch.zeros(n, 1, 2, 2), torch.zeros(n, dtype=torch.int64), ("p",) * n, ("s",) * n)

    clients = {"a": split(100), "b": split(3)}
    work = estimate.UntrainedPart("classifier", Clockwork(), lambda: None, clients, torch.device("cpu"))  # type: ignore[arg-type, return-value]
    assert work.seconds() == pytest.approx(4 * (3.0 + 2 * 0.5 * 103))


def test_no_estimate_without_rounds() -> None:
    class Odd(rbmed.Strategy):
        def train(self, build: Any, clients: Mapping[str, rbmed.Split], job: rbmed.TrainJob) -> rbmed.Federated:
            raise AssertionError("nothing to try")

    work = estimate.UntrainedPart("classifier", Odd(), lambda: None, {}, torch.device("cpu"))  # type: ignore[arg-type, return-value]
    assert work.seconds() is None
