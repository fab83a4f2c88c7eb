"""`rbmed new`: what it writes runs on real data, is short, and can be installed; `rbmed check` reports on it."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.processes import run

import robustbench_med as rbmed
from robustbench_med.plugins.registry import HOOKS, Registry

#: The embedded data, little of it.
FEW = "brainsim:size=32,train_patients=2,calibration_patients=2,test_patients=1,slices=2"
TRAINED = {"dataset": FEW, "train": True, "strategy": "fedavg:rounds=1", "model": "resnet:width=8"}
#: How each kind takes part in a run; every run reaches the component through the registry, as a user's does.
RUNS = {
    "attack": {**TRAINED, "attack": "my-attack:steps=2"},
    "detector": {**TRAINED, "defense": "shielded:detector=my-detector"},
    "purifier": {**TRAINED, "defense": "shielded:purifier=my-purifier"},
    "strategy": {**TRAINED, "strategy": "my-strategy:rounds=1"},
    "dataset": {**TRAINED, "dataset": "my-dataset:images=8"},
    "model": {**TRAINED, "model": "my-model"},
    "defense": {**TRAINED, "defense": "my-defense"},
    "metric": TRAINED,
    "report": TRAINED,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.mark.parametrize("kind", HOOKS)
def test_a_single_file_runs_on_the_embedded_data_as_it_stands(kind: str, tmp_path: Path) -> None:
    written = invoke("new", kind, f"my-{kind}")
    assert written.exit_code == 0, written.output
    assert f"rbmed -p my_{kind}.py check {kind}/my-{kind}" in written.stdout
    registry = Registry(files=[f"my_{kind}.py"])
    assert registry.failures == []
    options = {"defense": "undefended", "baseline": "", "attack": "fgsm", "access": "oblivious", "limit": 4}
    (record,) = rbmed.evaluate(registry=registry, out=tmp_path / "out", **{**options, **RUNS[kind]})
    assert (record.status, record.reason) == ("ok", None)
    if kind == "metric":
        assert "my_metric_success" in record.metrics
    if kind == "report":
        shown = invoke("-p", "my_report.py", "table", tmp_path / "out", "--report", "my-report")
        assert shown.stdout.startswith("dataset;"), shown.output


def test_a_simple_attack_takes_40_lines_or_fewer_template_included() -> None:
    invoke("new", "attack", "my-attack")
    assert len(Path("my_attack.py").read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["atack", "mine"], ["unknown kind 'atack', did you mean 'attack'?"]),
        (["attack", "My_Attack"], ["'My_Attack' cannot name a plugin", "my-attack"]),
        (["attack", "random"], ["random.py would hide the module"]),
        (["attack", "class"], ["'class' is taken"]),
        (["attack", "there"], ["there.py exists; choose another name"]),
        (["attack", "there", "--package"], ["rbmed-there exists; choose another name"]),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(args: list[str], parts: list[str]) -> None:
    Path("there.py").touch()
    Path("rbmed-there").mkdir()
    result = invoke("new", *args)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["rbmed-there", "there.py"]


def test_check_reports_on_a_file_and_fails_where_a_rule_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustbench_med.cli.console.out.width", 140)  # else a line may be folded
    invoke("new", "metric", "my-metric")
    good = invoke("-p", "my_metric.py", "check")
    assert good.exit_code == 0, good.output
    assert "It gives named figures" in good.stdout
    assert good.stdout.splitlines()[-1].endswith(": none failed")
    del sys.modules["my_metric"]
    text = Path("my_metric.py").read_text(encoding="utf-8")
    Path("my_metric.py").write_text(text.replace("if count else None", "if not count else 'many'"), encoding="utf-8")
    bad = invoke("-p", "my_metric.py", "check", "metric/my-metric")
    assert bad.exit_code == 1
    assert "-> figures must be numbers, None or Rate: my_metric_success" in bad.stdout
    shown = json.loads(invoke("-p", "my_metric.py", "check", "--json").stdout)
    assert [each["check"] for each in shown if each["faults"]] == ["figures"]


def test_check_takes_a_distribution_or_a_component_with_parameters() -> None:
    assert "4 components" not in invoke("check", "metric/detection").stdout
    assert "components in" in invoke("check", "rbmed-metrics").stdout
    assert invoke("check", "attack/fgsm:loss=ce").exit_code == 0


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ([], "nothing to check: name KIND/NAME"),
        (["nothing"], "'nothing' is neither KIND/NAME nor a distribution"),
        (["attack/psuh"], "unknown attack 'psuh'"),
        (["attack/fgsm:los=ce"], "unknown parameter 'los'"),
    ],
)
def test_check_refuses_what_it_cannot_find(args: list[str], part: str) -> None:
    result = invoke("check", *args)
    assert result.exit_code in (1, 2)
    assert part in result.stderr + result.stdout


def _package(kind: str) -> Path:
    result = invoke("new", kind, f"my-{kind}", "--package")
    assert result.exit_code == 0, result.output
    return Path(f"rbmed-my-{kind}").resolve()


def _wheel(kind: str) -> Path:
    folder = _package(kind)
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def python(executable: Path | str, first: Path | str, *args: object) -> str:
    """What a Python prints that finds ``first`` before what is installed here."""
    paths = os.pathsep.join([str(first), *filter(None, sys.path)])
    command = [executable, "-W", "ignore", "-m", *map(str, args)]
    return run(command, env={**os.environ, "PYTHONPATH": paths}).stdout


@pytest.mark.parametrize("kind", ["metric", *(pytest.param(k, marks=pytest.mark.slow) for k in HOOKS if k != "metric")])
def test_a_package_is_listed_once_installed_and_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    """A wheel of plain Python is installed once it is unpacked where Python looks."""
    wheel, site = _wheel(kind), tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert f"rbmed-my-{kind} 0.1.0" in python(sys.executable, site, "robustbench_med", "list", kind)
    tests = wheel.parents[1] / "tests"
    assert " passed" in python(
        sys.executable, site, "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tests, tests
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOOKS)
def test_every_package_installs_into_a_fresh_environment(kind: str, tmp_path: Path) -> None:
    """A virtual environment of its own, which borrows the libraries that are here."""
    wheel, environment = _wheel(kind), tmp_path / "env"
    run([sys.executable, "-m", "venv", environment])
    executable = environment / "bin" / "python"
    run([executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel])
    (site,) = environment.glob("lib/python*/site-packages")
    assert ": none failed" in python(executable, site, "robustbench_med", "check", f"{kind}/my-{kind}")
