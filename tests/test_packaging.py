"""What the packaging promises: versions in lockstep, one list of pins, complete plugins, commands that are run."""

from __future__ import annotations

import re
import shutil
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.processes import run
from packaging.requirements import Requirement

import robustbench_med
from robustbench_med.leaderboard.sources.folder import CLAIMS, EVIDENCE, NOTICE, SPLITS, SUBMISSIONS
from robustbench_med.leaderboard.sources.names import NAMES
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS
from robustbench_med.leaderboard.sources.studies import STUDIES
from robustbench_med.leaderboard.sources.verified import VERIFIED

PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
CORE_VERSION = robustbench_med.__version__


def toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def root() -> dict[str, Any]:
    return toml(ROOT / "pyproject.toml")


def plugin_ids() -> list[str]:
    return [path.name for path in PLUGINS]


def requirements(project: dict[str, Any]) -> list[Requirement]:
    """What a distribution asks for, extras included."""
    extras = project.get("optional-dependencies", {}).values()
    return [Requirement(text) for text in chain(project["dependencies"], *extras)]


def is_ours(requirement: Requirement) -> bool:
    return requirement.name.startswith(("rbmed-", "robustbench-med"))


def test_each_folder_under_plugins_is_a_distribution() -> None:
    folders = sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir())
    assert [path.name for path in folders] == plugin_ids()


@pytest.mark.parametrize("folder", PLUGINS, ids=plugin_ids())
def test_plugin_is_complete(folder: Path) -> None:
    project = toml(folder / "pyproject.toml")["project"]
    module = folder.name.replace("-", "_")
    assert project["name"] == folder.name
    assert list(project["entry-points"]) == ["rbmed"]
    assert project["entry-points"]["rbmed"] == {folder.name.removeprefix("rbmed-"): f"{module}.plugin"}
    missing = [
        name
        for name in ("README.md", f"{module}/__init__.py", f"{module}/plugin.py", f"{module}/py.typed")
        if not (folder / name).is_file()
    ]
    assert not missing
    assert list((folder / "tests").glob("test_*.py")), "no tests"


@pytest.mark.parametrize("folder", PLUGINS, ids=plugin_ids())
def test_plugin_version_is_the_cores(folder: Path) -> None:
    project = toml(folder / "pyproject.toml")["project"]
    assert project["version"] == CORE_VERSION
    ours = {requirement.name: requirement for requirement in requirements(project) if is_ours(requirement)}
    assert "robustbench-med" in ours
    refusing = [str(requirement) for requirement in ours.values() if not requirement.specifier.contains(CORE_VERSION)]
    assert not refusing


@pytest.mark.parametrize("folder", PLUGINS, ids=plugin_ids())
def test_plugin_is_named_where_first_party_plugins_are(folder: Path, root: dict[str, Any]) -> None:
    assert folder.name in root["dependency-groups"]["plugins"]
    assert root["tool"]["uv"]["sources"][folder.name] == {"workspace": True}
    assert folder.name.replace("-", "_") in root["tool"]["importlinter"]["root_packages"]


def test_no_first_party_plugin_is_named_that_is_gone(root: dict[str, Any]) -> None:
    assert root["dependency-groups"]["plugins"] == plugin_ids()
    assert set(root["tool"]["uv"]["sources"]) == {"robustbench-med", *plugin_ids()}
    assert len(root["tool"]["importlinter"]["root_packages"]) == 1 + len(PLUGINS)


def test_constraints_file_lists_uvs_pins(root: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins == root["tool"]["uv"]["constraint-dependencies"]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", pin) for pin in pins)


def test_pins_satisfy_every_declared_bound(root: dict[str, Any]) -> None:
    pins = dict(pin.split("==") for pin in root["tool"]["uv"]["constraint-dependencies"])
    projects = [root["project"], *(toml(folder / "pyproject.toml")["project"] for folder in PLUGINS)]
    third_party = [r for project in projects for r in requirements(project) if not is_ours(r)]
    unpinned = {r.name for r in third_party} - pins.keys()
    assert not unpinned
    assert not [str(r) for r in third_party if not r.specifier.contains(pins[r.name])]


def test_no_lock_file_is_tracked() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = run([git, "ls-files"], cwd=ROOT).stdout.splitlines()
    assert not [name for name in names if re.search(r"(^|/)(uv|poetry|Pipfile|pylock.*)\.(lock|toml)$", name)]


def test_ci_runs_the_readmes_test_command() -> None:
    command = "python3 -m venv .tools && .tools/bin/pip install -q tox && .tools/bin/tox"
    for name in ("README.md", "CONTRIBUTING.md"):
        assert command in (ROOT / name).read_text(encoding="utf-8").splitlines(), name
    assert f"{{ {command}; }}" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_changelog_fragments_are_named_for_towncrier(root: dict[str, Any]) -> None:
    kinds = "|".join(kind["directory"] for kind in root["tool"]["towncrier"]["type"])
    fragments = [path.name for path in (ROOT / "changelog").iterdir() if path.name != "README.md"]
    assert not [name for name in fragments if not re.fullmatch(rf"(\d+|\+[\w-]+)\.({kinds})(\.\d+)?\.md", name)]


def test_licence_is_apache_and_its_text_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_wheel_has_what_the_leaderboard_is_read_from(root: dict[str, Any]) -> None:
    sources = (RECORDS, OUTCOMES, SPLITS, CLAIMS, NAMES, NOTICE, SUBMISSIONS, EVIDENCE, VERIFIED, *STUDIES)
    there = {f"leaderboard/{name}" for name in sources if (ROOT / "leaderboard" / name).exists()}
    included = root["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included.keys() == {*there, "configs"}
    assert all(target == f"robustbench_med/published/{source}" for source, target in included.items())


def test_the_extra_all_has_every_plugin_but_the_example(root: dict[str, Any]) -> None:
    named = {Requirement(text).name for text in root["project"]["optional-dependencies"]["all"]}
    assert named == {"robustbench-med", *plugin_ids()} - {"rbmed-example"}


def test_containers_get_what_is_installed_from() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    names = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    recipe = (ROOT / "apptainer.def").read_text(encoding="utf-8")
    assert names == set(re.findall(r"(?m)^    (\S+) /src/\S+$", recipe))
    assert all((ROOT / name).exists() for name in names)
    commands = re.findall(r"uv pip install --system [^\n]*", (ROOT / "Dockerfile").read_text(encoding="utf-8") + recipe)
    assert len(commands) == 2
    assert all(
        command.partition(" --constraint ")[2].startswith("/src/constraints.txt /src /src/p") for command in commands
    )


def test_the_container_writes_where_whoever_runs_it_may_write() -> None:
    """With ``--user`` there is no home directory, and a folder that nobody mounts is the user's of the image."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    before, _, after = text.partition("\nUSER ")
    assert "mkdir /data && chown rbmed /data" in before
    assert "HOME=/tmp" in after
    assert "--user" in before


def test_workflows_run_every_supported_python(root: dict[str, Any]) -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    classifiers = re.findall(r"Python :: (3\.\d+)", "\n".join(root["project"]["classifiers"]))
    assert re.findall(r'"(3\.\d+)"', text) == classifiers
    assert "run: .ci/run" in text


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {CORE_VERSION}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
