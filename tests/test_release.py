"""A release: checked, committed, tagged, built, published to an index, installed from there, used elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.processes import run, started

VERSION = "9.8.7"
#: pypiserver with room in memory for the largest wheel: what reads an upload there refuses a file that is smaller than
#: the part that it keeps in memory by no more than the size of the fields before it.
SERVE = """
from pypiserver import bottle
from pypiserver.__main__ import main
bottle.BaseRequest.MEMFILE_MAX = 1 << 28
main()
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has here, changes included, as a repository of one commit."""
    folder = tmp_path_factory.mktemp("release") / "checkout"
    names = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT).stdout.splitlines()
    left_out = ("leaderboard/entries/", "leaderboard/gallery/", "leaderboard/archive/", "docs/images/")
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(left_out):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for key, value in {"user.name": "tests", "user.email": "tests@localhost", "commit.gpgsign": "false"}.items():
        git(folder, "config", key, value)
    git(folder, "add", "--all", "--force", ".")
    git(folder, "commit", "--quiet", "-m", "all")
    return folder


def git(folder: Path, *words: str) -> str:
    return run(["git", *words], cwd=folder).stdout.strip()


def release(folder: Path, version: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/release.py", version, "--out", str(out)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("version", "change", "words"),
    [
        ("1.0", "", "no version"),
        ("v9.8.7", "", "no version"),
        ("0.0.1", "", "older than"),
        (VERSION, "stray.txt", "has changes"),
    ],
)
def test_what_cannot_be_released_is_refused_before_anything_is_written(
    checkout: Path, tmp_path: Path, version: str, change: str, words: str
) -> None:
    if change:
        (checkout / change).touch()
    before = git(checkout, "status", "--porcelain")
    try:
        refused = release(checkout, version, tmp_path / "dist")
        assert refused.returncode == 1
        assert words in refused.stderr
        assert git(checkout, "status", "--porcelain") == before
        assert not git(checkout, "tag")
        assert not (tmp_path / "dist").exists()
    finally:
        if change:
            (checkout / change).unlink()


@pytest.fixture(scope="module")
def released(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distributions of a release."""
    out = tmp_path_factory.mktemp("dist") / "dist"
    made = release(checkout, VERSION, out)
    assert made.returncode == 0, made.stdout + made.stderr
    assert release(checkout, VERSION, out).stderr.startswith(f"the tag v{VERSION} exists")
    return out


@pytest.fixture(scope="module")
def index(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a package index on this machine, to which the release was published."""
    folder = tmp_path_factory.mktemp("index")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server = [sys.executable, "-c", SERVE, "run", "-i", "127.0.0.1", "-p", str(port), "-P", ".", "-a", "."]
    address = f"http://127.0.0.1:{port}"
    with started([*server, folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        publish = [sys.executable, "-m", "uv", "publish", "--publish-url", f"{address}/", "-u", "a", "-p", "b"]
        run([*publish, *sorted(released.iterdir())], env=_direct())
        yield f"{address}/simple/"


def _direct() -> dict[str, str]:
    """The environment, without a proxy or another index."""
    return {key: value for key, value in os.environ.items() if not re.search(r"(?i)proxy|^(PIP|UV)_.*(INDEX|URL)", key)}


@pytest.mark.slow
def test_one_commit_and_one_tag_hold_the_versions_and_the_changelog(checkout: Path, released: Path) -> None:
    assert git(checkout, "tag") == f"v{VERSION}"
    assert git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "rev-list", "--count", "HEAD") == "2"
    projects = [tomllib.loads(path.read_text()) for path in checkout.glob("plugins/*/pyproject.toml")]
    assert {each["project"]["version"] for each in projects} == {VERSION}
    texts = [path.read_text() for path in (checkout / "pyproject.toml", *checkout.glob("plugins/*/pyproject.toml"))]
    assert set(re.findall(r'"(?:rbmed-|robustbench-med)[^"]*==([^"]*)"', "".join(texts))) == {VERSION}
    assert f"## {VERSION} (" in (checkout / "CHANGELOG.md").read_text()
    assert [path.name for path in (checkout / "changelog").iterdir()] == ["README.md"]
    assert f"version: {VERSION}\ndate-released: 2" in (checkout / "CITATION.cff").read_text()
    assert len(list(released.glob("*.whl"))) == len(list(released.glob("*.tar.gz"))) == 1 + len(projects)


@pytest.mark.slow
def test_what_an_index_serves_works_outside_a_checkout(index: str, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    run([sys.executable, "-m", "venv", environment])
    executable = environment / "bin" / "python"
    names = ["robustbench-med", *(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir())]
    install = [executable, "-m", "pip", "install", "-q", "--no-deps", "--index-url", index]
    run([*install, *(f"{name}=={VERSION}" for name in names)], env=_direct())
    (site,) = environment.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("-packages")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *libraries])}

    def rbmed(*words: str) -> str:
        return run([executable, "-W", "ignore", "-m", "robustbench_med", *words], cwd=tmp_path, env=env).stdout

    assert f"robustbench-med {VERSION}" in rbmed("--version")
    assert "medfedpure" in rbmed("leaderboard", "show", "--dataset", "brainsim", "--eps", "4/255")
    assert "cells" in rbmed("plan", "leaderboard/brainsim", "--include", "defense=shielded:jpeg")
    rbmed("run", "--defense", "medfedpure", "--attack", "apgd:steps=2", "--limit", "4", "--access", "oblivious")
    records = [json.loads(line) for line in (tmp_path / "results" / "records.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok", "ok"]
