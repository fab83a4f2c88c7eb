"""``rbmed train`` and ``rbmed run`` as a user types them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import Result
from helpers import paths
from helpers.command import invoke, own_folder
from helpers.paths import ROOT
from rich.console import Console

from robustbench_med.cli.tables.records import show
from robustbench_med.records.record import read

TOY = str(paths.TOY)
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def rbmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Call ``rbmed -p toy_plugin.py ...`` in a folder of its own, both toy defenses trained."""
    with own_folder(tmp_path_factory):
        call = partial(invoke, "-p", TOY)
        for defense in ("guarded", "bare"):
            trained = call("train", defense, "--dataset", "stripes")
            assert trained.exit_code == 0, trained.output
        yield call


def run(rbmed: Run, *more: str) -> Result:
    fixed = ("--dataset", "stripes", "--defense", "guarded", "--baseline", "bare", "--eps", "1/10")
    return rbmed("run", *fixed, *more)


def test_the_first_table_shows_claim_probe_and_gap(rbmed: Run) -> None:
    done = rbmed("run", str(config(Path("first.toml"))))
    assert done.exit_code == 0, done.output
    for words in (
        "stripes (synthetic)",
        "oblivious",
        "probe",
        "guarded on the ladder",
        "full",
        "selective",
        "bare",
        "guarded",
        "on the same 12 images",
        "--access ladder:full",
        "skipped: bare / ladder:quick / ladder: nothing besides",
    ):
        assert words in done.output
    assert (Path("results") / "records.jsonl").is_file()


def config(path: Path) -> Path:
    path.write_text(
        'dataset = "stripes"\ndefense = "guarded"\nbaseline = "bare"\n'
        'surrogate = "bare"\nattack = "shift"\neps = "1/10"\n'
    )
    return path


def test_the_table_fits_80_columns() -> None:
    folders = (ROOT / "leaderboard" / name / "records" for name in ("measurements", "archive"))
    every = [record for folder in folders for record in read(folder / "brainsim.jsonl.gz")]
    default = [each for each in every if (each.defense.name, each.defense.params_passed) == ("medfedpure", {})]
    record = next(each for each in default if each.role == "claim")
    records = [record, next(each for each in default if each.role == "probe")]
    console = Console(width=80, file=io.StringIO())
    console.print(show(records))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [" ".join(line.split()) for line in text.splitlines()]
    figures = record.metrics
    clean, robust, fpr, tpr = (
        f"{100 * figures[name]:.1f}" for name in ("clean_accuracy", "robust_accuracy", "detector_fpr", "detector_tpr")
    )
    low, high = (f"{100 * bound:.0f}" for bound in record.intervals["robust_accuracy"])
    worst = f"{100 * min(client['robust_accuracy'] for client in record.per_client.values()):.1f}"
    assert f"medfedpure apgd oblivious {clean} {robust} [{low},{high}] {worst} {fpr}/{tpr} 320/-" in rows
    assert any(row.startswith("medfedpure ladder:quick probe ") for row in rows)


def test_json_prints_events_and_nothing_else(rbmed: Run) -> None:
    done = run(rbmed, "--attack", "shift", "--access", "oblivious", "--json", "--out", "json")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    records = [event["record"] for event in events if event["event"] == "record"]
    assert [record["defense"]["name"] for record in records] == ["bare", "guarded"]
    assert records == [json.loads(line) for line in (Path("json") / "records.jsonl").read_text().splitlines()]


def test_a_report_replaces_the_table(rbmed: Run) -> None:
    done = run(rbmed, "--attack", "shift", "--access", "oblivious", "--report", "markdown")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("| dataset | dataset_params | synthetic | defense |")


def test_a_failed_cell_exits_1_and_names_itself(rbmed: Run) -> None:
    done = run(rbmed, "--attack", "shift:fail=true", "--attack", "shift", "--access", "oblivious", "--out", "failed")
    assert done.exit_code == 1
    assert "failed: guarded / shift:fail=true / oblivious: RuntimeError: as asked" in done.stderr
    assert len((Path("failed") / "records.jsonl").read_text().splitlines()) == 4


def test_quiet_shows_results_and_no_progress(rbmed: Run) -> None:
    done = run(rbmed, "--attack", "shift", "--access", "oblivious", "--quiet", "--out", "quiet")
    assert done.exit_code == 0, done.output
    assert "guarded" in done.stdout
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines())
    loud = run(rbmed, "--attack", "shift", "--access", "oblivious", "--out", "loud")
    assert not all(line.startswith("warning: ") for line in loud.stderr.splitlines())


def test_tables_tell_threats_clients_and_seeds_apart(rbmed: Run) -> None:
    base = ("--attack", "shift", "--access", "oblivious", "--baseline", "", "--quiet", "--limit", "4")
    done = run(rbmed, *base, "--each-client", "--seed", "0", "--seed", "1", "--out", "apart")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[1] == ["defense", "client", "seed", "clean", "robust", "[95%]", "worst", "FPR/TPR", "n"]
    assert [row[:3] for row in rows if row[:1] == ["guarded"] and row[1] != "/"] == [
        ["guarded", "site-0", "0"],
        ["guarded", "site-0", "1"],
        ["guarded", "site-1", "0"],
        ["guarded", "site-1", "1"],
    ]
    file = config(Path("threats.toml"))
    file.write_text(file.read_text().replace('eps = "1/10"', 'threat = ["linf:1/10", "linf:1/20,goal=hide-lesion"]'))
    done = rbmed("run", str(file), *base, "--out", "threats")
    assert done.exit_code == 0, done.output
    assert "guarded  linf 0.05 hide-lesion" in done.stdout


def test_a_named_configuration_runs(rbmed: Run) -> None:
    Path("configs").mkdir()
    config(Path("configs") / "tiny.toml")
    done = rbmed("run", "tiny", "--quiet", "--access", "oblivious", "--limit", "4", "--out", "named")
    assert done.exit_code == 0, done.output
    assert len((Path("named") / "records.jsonl").read_text().splitlines()) == 2
    assert rbmed("plan", "tiny", "--access", "oblivious", "--limit", "4", "--out", "named").stdout.count("done") == 3
    missing = rbmed("run", "tniy")
    assert missing.exit_code == 2
    assert re.search(r"no such file; by name in configs: .*\btiny\b", missing.stderr)


def test_an_interrupted_run_says_what_is_kept_and_how_to_resume(rbmed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import robustbench_med.runner.runner

    real = robustbench_med.runner.runner.Runner.run

    def interrupted(self: robustbench_med.runner.runner.Runner) -> Iterator[object]:
        for number, record in enumerate(real(self)):
            if number == 1:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(robustbench_med.runner.runner.Runner, "run", interrupted)
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/rbmed", "run", "my grid.toml", "--seed", "1"])
    done = run(rbmed, "--attack", "shift", "--access", "oblivious", "--quiet", "--out", "cut")
    assert done.exit_code == 130
    assert done.stderr == (
        "interrupted: 1 cell is in cut/records.jsonl (`rbmed table` shows it); resume with: "
        "rbmed run 'my grid.toml' --seed 1\n"
    )
    assert done.stdout == ""
    assert len((Path("cut") / "records.jsonl").read_text().splitlines()) >= 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--attack", "shift", "--eps", "0"), "eps must be > 0"),
        (("--attack", "shift", "--access", "rope"), "unknown access 'rope'"),
        (("--attack", "shift", "--access", "transfer"), "no trained weights for defense 'undefended'"),
        (("--attack", "shift", "--device", "cuda:9"), "CUDA devices found"),
        (("--attack", "shift", "--seed", "one"), "seed"),
    ],
)
def test_bad_usage_is_one_line_exit_2_and_leaves_nothing(rbmed: Run, args: tuple[str, ...], words: str) -> None:
    done = run(rbmed, *args, "--out", "bad")
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not Path("bad").exists()


def test_training_one_part_and_refusing_a_part_that_is_not_there(rbmed: Run) -> None:
    assert rbmed("train", "guarded", "--dataset", "stripes", "--only", "detector").exit_code == 0
    done = rbmed("train", "bare", "--dataset", "stripes", "--only", "purifier")
    assert done.exit_code == 2
    assert "'bare' has no 'purifier' to train; valid: classifier" in done.stderr


def test_weights_never_replace_a_folder_of_something_else(rbmed: Run) -> None:
    Path("precious").mkdir()
    (Path("precious") / "thesis.txt").write_text("years of work")
    done = rbmed("train", "bare", "--dataset", "stripes", "--out", "precious")
    assert done.exit_code == 2
    assert (Path("precious") / "thesis.txt").read_text() == "years of work"
