"""A preview matches the run: its cells, what is skipped, what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import Result
from helpers.command import invoke
from helpers.grids import COMPARED
from helpers.paths import TOY

import robustbench_med as rbmed
from robustbench_med.cli.commands.plan import _how
from robustbench_med.errors import DataError, UnknownName, UsageError, WeightsError
from robustbench_med.grid.cell import Cell
from robustbench_med.grid.config import build
from robustbench_med.grid.plan import plan
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.plugins.components import create
from robustbench_med.plugins.registry import Registry
from robustbench_med.runner import cost, trial
from robustbench_med.runner.cost import Cost, total
from robustbench_med.runner.preview import Item, Preview
from robustbench_med.runner.trial import count_calls, per_image

BASE = {**COMPARED, "eps": "1/10"}


def preview(toys: Registry, tmp_path: Path, **options: object) -> Preview:
    return Preview(build({**BASE, "out": tmp_path / "out", **options}), toys)


def states(items: list[Item]) -> list[str]:
    return [item.state for item in items]


def test_cells_are_those_of_a_run_with_their_ids(toys: Registry, tmp_path: Path) -> None:
    options = {"access": ["oblivious", "bpda", "ladder"], "seed": [0, 1]}
    before = preview(toys, tmp_path, **options).items(estimate=False)
    assert states(before).count("skip") == 2
    assert all("already sees the whole system" in item.reason for item in before if item.state == "skip")
    assert not (tmp_path / "out").exists()
    records = rbmed.evaluate(registry=toys, out=tmp_path / "out", **{**BASE, **options})
    assert [r.cell_id for r in records if r.status == "ok"] == [i.cell_id for i in before if i.state == "run"]
    assert [r.n for r in records if r.status == "ok"] == [i.images for i in before if i.state == "run"]
    after = preview(toys, tmp_path, **options).items()
    assert states(after) == ["done" if state == "run" else state for state in states(before)]
    assert all(item.cost is None for item in after)


def test_what_failed_is_to_be_run_again(toys: Registry, tmp_path: Path) -> None:
    options = {"access": "oblivious", "baseline": "", "attack": "shift:fail=true"}
    (record,) = rbmed.evaluate(registry=toys, out=tmp_path / "out", **{**BASE, **options})
    assert record.status == "failed"
    (item,) = preview(toys, tmp_path, **options).items()
    assert item.state == "run"
    assert item.cost is None
    assert "cost unknown: RuntimeError: as asked" in item.reason


def test_estimated_calls_are_those_of_the_run(toys: Registry, tmp_path: Path) -> None:
    options = {"access": ["oblivious", "bpda", "full", "transfer"], "eot": 3, "limit": 5, "baseline": ""}
    items = preview(toys, tmp_path, **options).items()
    records = rbmed.evaluate(registry=toys, out=tmp_path / "out", **{**BASE, **options})
    assert len(items) == len(records) == 4
    for item, record in zip(items, records, strict=True):
        assert item.cost is not None
        assert item.cost.gradients == record.n * record.spent.gradients_mean, record.threat
        assert item.cost.queries == record.n * record.spent.queries_mean
        assert item.cost.seconds > 0


def test_weights_that_are_missing_are_seen_and_not_trained(toys: Registry, tmp_path: Path) -> None:
    options = {"access": "oblivious", "strategy": ["pooled", "own"], "train_seed": 5}
    refused = preview(toys, tmp_path, **options)
    items = refused.items()
    assert states(items) == ["refused"] * 4
    assert "rbmed train bare --dataset stripes --strategy pooled --seed 5" in items[0].reason
    assert refused.trainings(items) == []
    wanted = preview(toys, tmp_path, **options, train=True)
    items = wanted.items()
    assert states(items) == ["train"] * 4
    assert all(item.cell_id is None and item.images == 24 for item in items)
    assert all(item.cost is not None and item.cost.gradients == 24 for item in items)
    # The classifier of each strategy serves both defenses; the detector is trained by a strategy of its own.
    assert [(work.part, work.strategy.spec_name) for work in wanted.trainings(items)] == [
        ("classifier", "pooled"),
        ("detector", "pooled"),
        ("classifier", "own"),
    ]
    with pytest.raises(WeightsError):
        rbmed.load_defense("bare", "stripes", strategy="own", train_seed=5, registry=toys)


def test_a_surrogate_without_weights_is_trained_or_its_rung_is_left_out(toys: Registry, tmp_path: Path) -> None:
    options = {"access": "ladder", "baseline": "", "surrogate": "guarded:purifier=retouch"}
    (left_out,) = preview(toys, tmp_path, **options).items(estimate=False)
    assert left_out.state == "run"
    assert all(rung.access != "transfer" for rung in left_out.cell.rungs)
    (trained,) = preview(toys, tmp_path, **options, train=True).items(estimate=False)
    assert trained.state == "train"
    (unknown,) = preview(toys, tmp_path, **{**options, "surrogate": "missing"}, train=True).items(estimate=False)
    assert unknown.state == "run"
    (alone,) = preview(toys, tmp_path, **{**options, "access": "transfer"}).items(estimate=False)
    assert alone.state == "refused"
    assert "no trained weights" in alone.reason or "other parameters" in alone.reason


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"client": "site-9"}, UsageError),
        ({"weights": "/nowhere"}, WeightsError),
        ({"access": "transfer", "surrogate": "missing"}, UnknownName),
        ({"dataset": "nothing"}, UnknownName),
    ],
)
def test_what_a_run_would_refuse_is_refused(
    toys: Registry, tmp_path: Path, options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        preview(toys, tmp_path, **{"access": "oblivious", **options}).items()


def test_unreadable_data_is_said(toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: object, name: str) -> None:
        raise DataError(f"file {name}/7.png is not an image")

    monkeypatch.setattr(toys.load("dataset", "stripes"), "split", unreadable)
    with pytest.raises(DataError, match="is not an image"):
        preview(toys, tmp_path).items()


def test_patterns_that_no_cell_fits_are_named(toys: Registry, tmp_path: Path) -> None:
    looked = preview(toys, tmp_path, exclude=["attack=shfit", "seed=1"], include=["defense=*"], seed=[0, 1])
    assert looked.idle() == ["attack=shfit"]
    assert preview(toys, tmp_path).idle() == []


def test_more_images_draws_diagnostics_and_rungs_cost_more(toys: Registry, tmp_path: Path) -> None:
    looked = preview(toys, tmp_path, access=["bpda", "ladder"], baseline="", diagnostics="off")
    (plain, ladder) = looked.items()
    assert plain.cost is not None
    assert ladder.cost is not None
    assert ladder.cost.gradients > plain.cost.gradients
    case = looked._case(plain)  # trials are kept, so that what follows is arithmetic on the same seconds
    fewer = looked.costs.of(type(case)(**{**vars(case), "images": (6, 6)}))
    assert fewer.seconds < looked.costs.of(case).seconds
    seconds = []
    for level in ("off", "cheap", "full"):
        looked.costs.diagnostics = level
        seconds.append(looked.costs.of(case).seconds)
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[1] < seconds[2]
    assert total([Cost(1, 2, 3.0), Cost(10, 20, 30.0)]) == Cost(11, 22, 33.0)


# --- trials ---


@pytest.mark.parametrize(
    ("attack", "access", "draws", "gradients"),
    [
        ("apgd:steps=20", "oblivious", 1, 20),
        ("apgd:steps=20", "oblivious", 4, 80),
        ("pgd:steps=7", "oblivious", 1, 7),
        ("square:queries=40", "query", 1, 0),
        ("noise", "oblivious", 1, 0),
    ],
)
def test_an_attack_is_counted_on_a_system_that_does_not_give_way(
    attack: str, access: str, draws: int, gradients: int
) -> None:
    made = create(Registry(), "attack", attack)
    for threat in (ThreatModel(), ThreatModel(eps=0.25)):
        calls = count_calls(made, access, threat, Budget(), torch.Size((1, 8, 8)), 2, draws)
        assert calls.gradients == gradients
        assert calls.queries >= gradients
        assert calls.draws == draws


def test_an_attack_that_needs_a_wrong_image_to_start_from_finds_one() -> None:
    made = create(Registry(), "attack", "hopskipjump:steps=3")
    assert count_calls(made, "query", ThreatModel(), Budget(), torch.Size((1, 8, 8)), 2, 1).queries > 100


def test_a_budget_ends_the_rehearsal() -> None:
    made = create(Registry(), "attack", "square:queries=500")
    calls = count_calls(made, "query", ThreatModel(), Budget(queries=50), torch.Size((1, 8, 8)), 3, 1)
    assert 0 < calls.queries <= 50


def test_passes_that_take_too_long_to_count_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "PATIENCE", 0.2)
    made = create(Registry(), "attack", "pgd:steps=1000000000")
    with pytest.raises(UsageError, match=r"too many to be counted in 0\.2 s"):
        count_calls(made, "oblivious", ThreatModel(), Budget(), torch.Size((1, 8, 8)), 2, 1)


def test_a_call_is_tried_on_more_images_while_that_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: 0.0011 * sum(tried)))
    cpu = torch.device("cpu")
    assert per_image(tried.append, most=100, uses=1e6, device=cpu) == pytest.approx(0.0011)
    assert tried == [1, 8, 32, 100, 100]
    tried.clear()
    assert per_image(tried.append, most=2, uses=200, device=cpu) == pytest.approx(0.0011)
    assert tried == [1, 2, 2, 2, 2, 2]  # a twentieth of what is used, besides the first


def test_a_call_that_other_programs_slow_down_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(
        trial, "time", SimpleNamespace(perf_counter=lambda: 0.0011 * sum(tried) + 0.05 * (len(tried) > 4))
    )
    assert per_image(tried.append, most=100, uses=1e6, device=torch.device("cpu")) == pytest.approx(0.0011)
    assert tried == [1, 8, 32, 100, 100]  # the last one took half as long again


def test_a_trial_takes_a_small_share_of_what_it_forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: 0.001 * sum(tried)))
    for most in (1, 3, 128):
        for uses in (100, 400, 6400):
            tried.clear()
            per_image(tried.append, most=most, uses=uses, device=torch.device("cpu"))
            assert sum(tried) <= 1 + uses / 20


# --- the command ---


def rbmed_plan(*args: str) -> Result:
    fixed = (
        "--dataset",
        "stripes",
        "--defense",
        "guarded",
        "--baseline",
        "bare",
        "--eps",
        "1/10",
        "--attack",
        "shift",
        "--surrogate",
        "bare",
    )
    return invoke("-p", TOY, "plan", *fixed, *args, env={"COLUMNS": "160"})


def test_the_command_shows_cells_reasons_and_the_sum(toys: Registry, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    done = rbmed_plan("--access", "oblivious", "--access", "bpda", "--limit", "6", "--out", out)
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert f"stripes linf 0.1 to {out}" in lines[0]
    assert any(line.startswith("bare shift oblivious 6 6 ") and line.endswith("to run") for line in lines)
    assert "skipped (1): nothing besides the classifier is deployed" in done.stdout
    assert "4 cells: 3 to run, 1 skipped. At most 36 gradients" in done.stdout
    assert "counted on a toy, and the seconds of a pass on a few images: " in done.stdout
    assert done.stderr == ""
    assert not Path(out).exists()


def test_the_command_without_an_estimate_and_with_a_mistyped_pattern(toys: Registry, tmp_path: Path) -> None:
    done = rbmed_plan("--access", "oblivious", "--exclude", "attack=shfit", "--no-estimate", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "gradients" not in done.stdout
    assert "2 cells: 2 to run.\n" in done.stdout
    assert done.stderr == "warning: no cell matches the pattern 'attack=shfit'\n"


def test_the_command_says_what_lacks_weights_and_exits_2(toys: Registry, tmp_path: Path) -> None:
    done = rbmed_plan("--access", "oblivious", "--train-seed", "9", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert "2 cells: 2 without weights." in done.stdout
    assert "train them with `rbmed train bare --dataset stripes --seed 9`" in done.stderr
    train = rbmed_plan("--access", "oblivious", "--train-seed", "9", "--train", "--out", str(tmp_path))
    assert train.exit_code == 0
    assert "to train: classifier with pooled" in train.stdout


def test_the_command_as_json(toys: Registry, tmp_path: Path) -> None:
    done = rbmed_plan("--json", "--access", "oblivious", "--each-client", "--out", str(tmp_path))
    facts = json.loads(done.stdout)
    assert [(cell["defense"], cell["client"], cell["state"]) for cell in facts["cells"]] == [
        ("bare", "site-0", "run"),
        ("bare", "site-1", "run"),
        ("guarded", "site-0", "run"),
        ("guarded", "site-1", "run"),
    ]
    assert all(cell["cost"]["gradients"] == cell["images"] == 12 for cell in facts["cells"])
    assert facts["device"] == "cpu"


def test_planning_twice_gives_the_same_cells(toys: Registry) -> None:
    config = build({**BASE, "seed": [1, 0], "eps": ["1/10", "1/20"]})
    assert list(map(repr, plan(config, toys))) == list(map(repr, plan(config, toys)))
    assert any(isinstance(cell, Cell) for cell in plan(config, toys))


def test_a_second_plan_on_this_machine_times_nothing(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"access": ["oblivious", "bpda", "query"], "draws": 2, "batch_size": 5}
    first = [item.cost for item in preview(toys, tmp_path, **options).items()]
    kept = max((rbmed.home() / "throughput").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert json.loads(kept.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(cost, "per_image", lambda *_: pytest.fail("it was timed again"))
        patch.setattr(cost, "count_calls", lambda *_: pytest.fail("it was counted again"))
        repeated = preview(toys, tmp_path, **options)
        second = [item.cost for item in repeated.items()]
        assert (repeated.costs.trials, repeated.costs.seconds) == (0, 0.0)
        assert "all from earlier plans on this machine" in _how(repeated)
    assert [each and each.gradients for each in first] == [each and each.gradients for each in second]
    kept.write_text('{"a": "damaged"')
    again = [item.cost is not None for item in preview(toys, tmp_path, **options).items()]
    assert again == [each is not None for each in first]
