"""Options of training on the command line: what trains, what is compared, and what is refused in one line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from helpers.command import invoke
from helpers.paths import TOY

from robustbench_med.files.paths import home


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``rbmed -p toy_plugin.py ...`` in an empty folder, without any weights."""
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *args: invoke("-p", TOY, *args)


RUN = tuple(
    shlex.split(
        "run --dataset stripes --defense guarded:fpr=0.2 --baseline '' --attack shift --access oblivious --eps 1/10"
    )
)
HOW = tuple(
    shlex.split(
        "--strategy own:steps=5 --adversarial pgd:steps=5 --malicious client-1 "
        "--engine simulation --partition iid:clients=3 --unseen-site client-2"
    )
)


def test_the_command_in_the_error_trains_exactly_what_is_missing(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustbench_med.cli.console.out.width", 140)  # else a name may be folded
    missing = call(*RUN, *HOW, "--train-seed", "1")
    assert missing.exit_code == 2
    assert len(missing.stderr.strip().splitlines()) == 1
    program, *command = shlex.split(missing.stderr.split("`")[1])
    assert program == "rbmed"
    assert call(*command).exit_code == 0
    done = call(*RUN, *HOW, "--train-seed", "1")
    assert done.exit_code == 0, done.output
    assert "guarded:fpr=0.2 (unseen)" in " ".join(done.output.split())
    assert "unseen: client-2 had no part in training" in done.output


@pytest.mark.long
def test_one_command_trains_compares_and_prints_what_differs(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = "--strategy own --strategy own:steps=5 --strategy pooled --train-seed 0 --train-seed 1 --train"
    done = call(*RUN, *options.split(), "--partition", "iid:clients=4")
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert any(line.startswith("stripes (synthetic) iid:clients=4 linf 0.1 shift oblivious") for line in lines)
    for row in ("own seed 0", "own seed 1", "own:steps=5 seed 1", "pooled seed 1"):
        assert sum(f"{row} " in line for line in lines if not line.startswith("warning")) >= 1, (row, done.output)
    again = call("table", "results/records.jsonl", "--report", "seeds")
    assert again.exit_code == 0, again.output
    seeds = [line.split("|")[-2].strip() for line in again.stdout.splitlines() if line]
    assert seeds == ["seeds", "---", *"222"]


def test_records_on_disk_are_shown_again_each_cell_once(call: Any) -> None:
    first = call(*RUN, "--train")
    assert first.exit_code == 0, first.output
    assert call(*RUN).exit_code == 0
    shown = call("table", "results/records.jsonl")
    assert shown.exit_code == 0, shown.output
    assert [line for line in first.stdout.splitlines() if "records:" not in line] == shown.stdout.splitlines()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((*RUN, "--adversarial", "pgd"), "--adversarial pgd: strategy 'pooled'"),
        ((*RUN, "--strategy", "own", "--malicious", "a:[b"), "square brackets do not match"),
        ((*RUN, "--partition", "iid:clients=500", "--train"), "500 clients are too many"),
        ((*RUN, "--unseen-site", "site-9"), "no site 'site-9'"),
        ((*RUN, "--unseen-site", "site-0", "--unseen-site", "site-1"), "leaves no site"),
        ((*RUN, "--unseen-site", "site-0", "--client", "moon", "--train"), "unknown client 'moon'"),
        ((*RUN, "--train-seed", "-1"), "--train-seed"),
        ((*RUN, "--train-seed", "one"), "train-seed"),
        (("train", "bare", "--dataset", "stripes", "--engine", "x"), "strategy 'pooled'"),
        (("train", "bare", "--dataset", "stripes", "--partition", "x"), "unknown --partition 'x'"),
        (("train", "bare", "--dataset", "stripes", "--unseen-site", "x"), "no site 'x'"),
        (("table", "empty.jsonl"), "no records in empty.jsonl"),
        (("table", "rubbish.jsonl"), "no records in rubbish.jsonl: line 1 is not a record"),
        (("table", "empty.jsonl", "--report", "pdf"), "unknown report 'pdf'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(call: Any, args: tuple[str, ...], words: str) -> None:
    Path("empty.jsonl").touch()
    Path("rubbish.jsonl").write_text("rubbish\n")
    done = call(*args)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not Path("results").exists()
    assert not (home() / "parts").exists()
