"""Records: intervals, round trip, and what is not a record."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from robustbench_med.components import parse
from robustbench_med.errors import BadConfig
from robustbench_med.rate import Rate, wilson
from robustbench_med.records import Record, append, flatten, read
from robustbench_med.table import spelled, to_frame


def record(**fields: object) -> Record:
    values: dict[str, object] = {
        "cell_id": "0", "status": "ok", "role": "cell", "dataset": {"name": "d", "synthetic": True},
        "defense": {"name": "f", "params_passed": {"fpr": 0.1}}, "attack": {"name": "a", "params_passed": {}},
        "threat": {"norm": "linf", "eps": 0.1, "access": "oblivious"}, "eot": 1, "draws": 1, "seed": 0, "limit": None,
        "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Record.model_validate(values | fields)


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
    with pytest.raises(BadConfig, match=r"records\.jsonl:2 is not a record"):
        list(read(file))


def test_parameters_are_spelled_so_that_they_can_be_typed_again() -> None:
    params = {"score": "consistency", "detector": "mae:epochs=1,passes=2", "fpr": 0.1}
    text = f"medfedpure:{spelled(params)}"
    assert dict(parse(text).params) == {name: str(value) for name, value in params.items()}


def test_table_is_built_from_records_alone() -> None:
    frame = to_frame([record(metrics={"robust_accuracy": 0.5}, intervals={"robust_accuracy": (0.4, 0.6)},
                             per_client={"s": {"robust_accuracy": 0.5}}, worst_client="s")])  # fmt: skip
    row = frame.iloc[0]
    assert (row.robust_accuracy, row.robust_accuracy_low, row.robust_accuracy_high) == (0.5, 0.4, 0.6)
    assert (row.defense_params, row.worst_client_robust_accuracy) == ("fpr=0.1", 0.5)
