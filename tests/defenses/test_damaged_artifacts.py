"""Weights, parts and gates that were damaged on disk: found by their digests, made anew or refused with one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from helpers.command import invoke
from helpers.paths import TOY

from robustbench_med.defenses.gates import alike, read_gates, write_gates
from robustbench_med.defenses.pipeline import Gate
from robustbench_med.defenses.resolved import key_of
from robustbench_med.errors import StoreWarning
from robustbench_med.files.paths import home
from robustbench_med.records.compare import changed
from robustbench_med.records.folder import open_results
from robustbench_med.records.record import Record

Run = Callable[..., Result]


def call(out: str, *more: str) -> Result:
    """``rbmed run`` of one cell."""
    fixed = ("--dataset", "stripes", "--defense", "guarded", "--baseline", "", "--attack", "shift", "--eps", "1/10")
    return invoke("-p", TOY, "run", *fixed, "--access", "oblivious", "--out", out, *more)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home in which the cell was trained, and with the results of its first run."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(folder / "home"))
        patch.chdir(folder)
        done = call("first", "--train")
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def run(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Further runs, in a copy of that folder."""
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return call


def flip(file: Path) -> None:
    """Turn over the last bit."""
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def record(out: str) -> Record:
    (found,) = open_results(Path(out))
    return found


def only(pattern: str) -> Path:
    (found,) = home().glob(pattern)
    return found


def same_as_before(done: Result, out: str) -> None:
    assert done.exit_code == 0, done.output
    assert changed(record("first"), record(out)) == {}
    assert record(out).cell_id == record("first").cell_id


@pytest.mark.parametrize(
    "damage", [flip, lambda file: file.write_bytes(b""), Path.unlink], ids=["bit", "empty", "gone"]
)
def test_damaged_weights_are_refused_and_made_anew_on_request(run: Run, damage: Callable[[Path], object]) -> None:
    damage(only("artifacts/*/classifier.safetensors"))
    done = run("second")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "classifier.safetensors" in done.stderr
    assert not Path("second").exists()
    done = run("third", "--train")
    assert "warning: passed over: weights " in done.stderr
    same_as_before(done, "third")
    assert "passed over" not in run("fourth").stderr


def test_a_damaged_part_is_trained_again_and_never_checksummed(run: Run) -> None:
    flip(only("parts/classifier-*/classifier.safetensors"))
    shutil.rmtree(home() / "artifacts")
    done = run("second", "--train")
    assert "is damaged: its files do not match its training.json" in done.stderr
    same_as_before(done, "second")


def test_a_damaged_part_is_taken_from_weights_that_hold_it(run: Run) -> None:
    only("parts/detector-*/training.json").write_text("{")
    flip(only("artifacts/*/classifier.safetensors"))
    same_as_before(run("second", "--train"), "second")


def test_a_manifest_that_is_none_does_not_stop_training(run: Run) -> None:
    only("artifacts/*/manifest.json").write_text("[]")
    done = run("second")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "manifest.json is unreadable" in done.stderr
    same_as_before(run("third", "--train"), "third")


def test_damaged_gates_are_fixed_anew(run: Run) -> None:
    file = only("artifacts/*/calibration.json")
    text = file.read_text()
    facts = json.loads(text)
    facts["gates"]["site-0"]["threshold"] += 0.001  # a wrong digit, and still a valid file
    for damaged in (json.dumps(facts), "", "[]", text[:-20]):
        file.write_text(damaged)
        for cached in home().glob("calibration/*.json"):
            cached.unlink()
        shutil.rmtree("again", ignore_errors=True)
        done = run("again")
        assert "is damaged" in done.stderr
        same_as_before(done, "again")
    cached = only("calibration/*.json")
    cached.write_text(cached.read_text().replace("0", "1", 1))
    shutil.rmtree("again")
    same_as_before(run("again"), "again")


def test_thresholds_that_came_with_weights_are_not_verified(run: Run) -> None:
    """Their digest and key can be computed by anyone, and the digest of the weights does not cover them."""
    file = only("artifacts/*/calibration.json")
    facts = json.loads(file.read_text())
    for gate in facts["gates"].values():
        gate["threshold"] = gate["high"] * 2
    file.write_text(json.dumps(facts | {"digest": key_of(facts["gates"])}))
    assert run("second").exit_code == 0

    def verified(out: str) -> Result:
        return invoke("-p", TOY, "verify", out)

    done = verified("second")
    assert done.exit_code == 1, done.output
    assert done.stdout.startswith("differs ")
    assert "calibration.json holds other thresholds; delete it to verify without them" in " ".join(done.stdout.split())
    file.unlink()
    assert verified("second").exit_code == 1
    assert verified("first").exit_code == 0


def test_gates_of_another_machine_may_differ_by_rounding() -> None:
    one = Gate(0.5, 0.0, 1.0, absent=(1,))
    assert alike(one, Gate(0.505, 0.005, 0.995, absent=(1,), images=9))
    for other in (
        Gate(0.52, 0.0, 1.0, (1,)),
        Gate(0.5, -0.1, 1.0, (1,)),
        Gate(0.5, 0.0, 2.0, (1,)),
        Gate(0.5, 0.0, 1.0),
    ):
        assert not alike(other, one)


def test_gates_come_back_under_their_key_only(tmp_path: Path) -> None:
    gates = {"a": Gate(0.1, 0.0, 1.0)}
    write_gates(tmp_path / "g.json", "key", gates)
    assert read_gates(tmp_path / "g.json", "key") == gates
    assert read_gates(tmp_path / "g.json", "other") == {}
    assert read_gates(tmp_path / "none.json", "key") == {}
    write_gates(tmp_path / "g.json", "key", {"a": Gate(float("nan"), 0.0, 1.0)})
    with pytest.warns(StoreWarning, match="a bound is not finite"):
        assert read_gates(tmp_path / "g.json", "key") == {}


def test_two_runs_on_one_folder_keep_both(run: Run) -> None:
    assert run("first", "--seed", "1").exit_code == 0
    assert sorted(each.seed for each in open_results(Path("first"))) == [0, 1]
    assert len(list(Path("first/samples").iterdir())) == 2


def test_a_torn_line_is_named_by_the_command_line_and_the_run_goes_on(run: Run) -> None:
    file = Path("first") / "records.jsonl"
    file.write_text(file.read_text() + '{"torn')
    done = run("first", "--seed", "1")
    assert done.exit_code == 0, done.output
    assert "warning: " in done.stderr
    assert "line 2 is not a record" in done.stderr
    assert "records.quarantine.jsonl" in done.stderr
    shown = invoke("table", "first")
    assert shown.exit_code == 0
    assert "is not a record" not in shown.stderr


def test_a_place_that_cannot_be_written_is_one_line(run: Run) -> None:
    Path("file").touch()
    done = run("file")
    assert done.exit_code == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "--out file cannot be written" in errors[0]
    assert Path("file").read_bytes() == b""
