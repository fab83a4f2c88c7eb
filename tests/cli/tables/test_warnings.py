"""What is wrong with several rows for one reason is said once."""

from __future__ import annotations

from helpers.records import ladder_record

from robustbench_med.cli.tables.records import warnings


def test_a_flag_of_several_rows_is_explained_once() -> None:
    odd = {"flags": ["constant-answer"], "notes": ["a control was left out"]}
    three = [ladder_record(str(at), name=name, diagnostics=odd) for at, name in enumerate("fgh")]
    flag, note = warnings([*three, ladder_record("3", name="fine")])
    names, _, meaning = flag.partition(": constant-answer: ")
    assert [name.split()[0] for name in names.split("; ")] == ["f", "g", "h"]
    assert "has not learned the task" in meaning
    assert note == f"{names}: a control was left out"


def test_one_row_keeps_its_line() -> None:
    (line,) = warnings([ladder_record(diagnostics={"flags": ["constant-answer"], "notes": []})])
    assert line.startswith("f ")
    assert ";" not in line.partition(": constant-answer")[0]
