"""Records: intervals, round trip, and what is not a record."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from helpers.records import record
from rich.console import Console
from scipy import stats

from robustbench_med.cli.tables import clients
from robustbench_med.cli.tables.records import contrast, show, unseen
from robustbench_med.errors import StoreWarning
from robustbench_med.interfaces.rate import Rate, wilson
from robustbench_med.plugins.references import format_params, parse
from robustbench_med.records.contradictions import contradictions
from robustbench_med.records.record import Record, append, dumped, flatten, latest, read
from robustbench_med.records.record import parse as parse_record
from robustbench_med.records.table import to_frame


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (10, 10), (150, 320)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(Rate(hits, n)) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(Rate(0, 0)) == (0.0, 1.0)


def test_undefined_figures_become_none() -> None:
    values, intervals = flatten({"a": Rate(1, 4), "b": Rate(0, 0), "c": float("nan"), "d": None, "e": 0.5})
    assert values == {"a": 0.25, "b": None, "c": None, "d": None, "e": 0.5}
    assert set(intervals) == {"a"}


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    first, second = record(metrics={"x": 1 / 3}, intervals={"x": (0.1, 0.5)}), record(status="failed", reason="because")
    for item in (first, second):
        append(tmp_path / "deep" / "records.jsonl", item)
    assert list(read(tmp_path / "deep" / "records.jsonl")) == [first, second]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    append(file, record())
    file.write_text(file.read_text() + '{"cell_id": 1}\n')
    with pytest.warns(StoreWarning, match=r"records\.jsonl: line 2 is not a record \(schema_version.*skipped"):
        assert list(read(file)) == [record()]


def test_formatted_parameters_can_be_typed_again() -> None:
    params = {"score": "consistency", "detector": "mae:epochs=1,passes=2", "fpr": 0.1}
    text = f"medfedpure:{format_params(params)}"
    assert dict(parse(text).params) == {name: str(value) for name, value in params.items()}


def test_table_is_built_from_records_alone() -> None:
    frame = to_frame(
        [
            record(
                metrics={"robust_accuracy": 0.5},
                intervals={"robust_accuracy": (0.4, 0.6)},
                per_client={"s": {"robust_accuracy": 0.5}},
                worst_client="s",
            )
        ]
    )
    row = frame.iloc[0]
    assert (row.robust_accuracy, row.robust_accuracy_low, row.robust_accuracy_high) == (0.5, 0.4, 0.6)
    assert (row.defense_params, row.worst_client_robust_accuracy) == ("fpr=0.1", 0.5)


def test_a_table_says_what_was_asked() -> None:
    data = {"name": "d", "synthetic": False, "params_passed": {"folds": "5", "fold": "1"}}
    data |= {"asked": {"client": ["a", "b"]}}
    defense = {
        "name": "undefended",
        "params_passed": {},
        "asked": {"train-seed": "1", "adversarial": "pgd:steps=3"},
        "replaced": {"model": "vit"},
    }
    threat = {"norm": "linf", "eps": 0.1, "access": "full", "goal": "hide-lesion", "finding": "Mass"}
    budget = {"gradients": 9}
    row = to_frame([record(dataset=data, defense=defense, threat=threat, budget=budget, draws=3, eot=2)]).iloc[0]
    assert (row.dataset_params, row.client) == ("folds=5,fold=1", "a+b")
    assert row.training == "adversarial=[pgd:steps=3],model=vit"
    assert (row.goal, row.finding, row.budget) == ("hide-lesion", "Mass", "at most 9 gradients")
    assert (row.draws, row.eot) == (3, 2)


def test_a_budget_is_that_of_each_attack_of_a_ladder() -> None:
    half = {"withstanding": 0.5, "attacked": 8, "queries_mean": 1.0, "seconds": 0.0, "reason": ""}
    rungs = [{"rung": name, "access": name, "gradients_mean": 40.0, **half} for name in ("oblivious", "full")]
    spent = {"gradients_mean": 80.0, "gradients_max": 80.0}
    assert not list(contradictions(record(status="ok", budget={"gradients": 50}, rungs=rungs, spent=spent)))
    (line,) = contradictions(record(status="ok", budget={"gradients": 39}, rungs=rungs, spent=spent))
    assert line == "the attacks spent 80 gradients on an image, and the budget is 39 for each of 2 attacks"
    (line,) = contradictions(record(status="ok", budget={"gradients": 79}, rungs=rungs[:1], spent=spent))
    assert line == "the attacks spent 80 gradients on an image, and the budget is 79"


def federated(client: str = "s", **defense: object) -> Record:
    figure = {"mean": 0.9, "worst": 0.8, "worst_client": client, "spread": 0.1875, "std": 0.1, "clients": 2}
    weights = {
        "digest": "d",
        "seed": 0,
        "federation": {
            "rounds": 12,
            "clients": 10,
            "bytes_sent_per_round": 12_345_678.0,
            "bytes_received_per_round": 1.0,
            "seconds": 1.0,
            "suspected": {client: 11},
            "missing": {},
        },
    }
    facts = {"name": "undefended", "params_passed": {}, "asked": {}, "weights": weights} | defense
    return record(
        defense=facts,
        metrics={"clean_accuracy": 0.9, "robust_accuracy": 0.5},
        n=320,
        worst_client=client,
        intervals={"robust_accuracy": (0.4, 0.6)},
        per_client={client: {"robust_accuracy": 0.25}},
        between_clients={"clean_accuracy": figure, "robust_accuracy": figure | {"worst": 0.0625}},
    )


def strategy(name: str, **params: object) -> dict[str, object]:
    return {"name": name, "params_passed": params}


def printed(table: object) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_rows_that_differ_by_strategy_or_seed_say_so() -> None:
    seed_1 = federated().defense.weights.model_dump() | {"seed": 1}
    records = [
        federated(strategy=strategy("fedavg", adversarial="none")),
        federated(strategy=strategy("fedavg", adversarial="pgd:steps=5")),
        federated(strategy=strategy("ditto", lam=1)),
        federated(strategy=strategy("ditto", lam=1), weights=seed_1),
    ]
    assert contrast(records) == [
        {"strategy": "fedavg:adversarial=none", "trained": "seed 0"},
        {"strategy": "fedavg:adversarial=[pgd:steps=5]", "trained": "seed 0"},
        {"strategy": "ditto", "trained": "seed 0"},
        {"strategy": "ditto", "trained": "seed 1"},
    ]
    # One strategy for each defense is told by the defense.
    alone = [records[0], federated(name="medfedpure", strategy=strategy("fedmoe"))]
    assert contrast(alone) == [{}, {}]
    rows = printed(show(records))
    assert rows[0] == "d (synthetic) linf 0.1 a oblivious"
    assert "undefended ditto seed 1 90.0 50.0 [40,60]" in rows


def test_between_clients_in_80_columns() -> None:
    records = [
        federated("hospital-10", strategy=strategy("fedavg")),
        federated("hospital-10", strategy=strategy("ditto")),
    ]
    table = clients.show(records)
    rows = printed(table)
    assert rows[0] == "undefended: between clients (spread: best - worst; kB: sent by each per round)"
    assert "fedavg 90.0 80.0 18.8 90.0 6.2 18.8 1235 hospital-10 11/12" in rows
    alone = printed(clients.show(records[:1]))
    assert alone[0].startswith("Between clients")
    assert any(row.startswith("undefended 90.0 80.0 ") for row in alone)
    assert clients.show([record()]) is None


def test_unseen_sites_are_marked() -> None:
    alone = federated().model_copy(update={"unseen": ["s"], "clients": ["s"]})
    mixed = federated().model_copy(update={"unseen": ["s"], "clients": ["r", "s"]})
    rows = printed(show([alone, mixed]))
    assert any(row.startswith("undefended (unseen) a oblivious") for row in rows)
    assert any(row.startswith("undefended (1 of 2 unseen) a oblivious") for row in rows)
    assert list(unseen([alone, mixed])) == [
        "unseen: s had no part in training; answered by the state that all clients share"
    ]


def test_the_latest_of_a_cell_counts() -> None:
    first, second, other = record(n=1), record(n=2), record(cell_id="1", n=3)
    assert [r.n for r in latest([first, other, second])] == [2, 3]
    frame = to_frame([federated(strategy=strategy("ditto", lam=1))]).iloc[0]
    assert (frame.strategy, frame.strategy_params, frame.train_seed) == ("ditto", "lam=1", 0)
    assert (frame.clean_mean, frame.clean_worst, frame.robust_worst, frame.robust_spread) == (0.9, 0.8, 0.0625, 0.1875)


@pytest.mark.parametrize("number", ["1e999", "1E+400", "-1e309", "1" + "0" * 400 + ".0", "0.1e1000"])
def test_a_number_too_large_for_a_float_is_no_figure(number: str) -> None:
    line = dumped(record(metrics={"x": 0.5})).replace('"x": 0.5', f'"x": {number}')
    with pytest.raises(ValueError, match=r"[Oo]ut of range|finite|JSON"):
        parse_record(line)
