"""The commit that a record names: that of the checkout the code runs from, None for an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.processes import LIMIT, run

from robustbench_med.files import provenance
from robustbench_med.files.checkout import checkout

PROJECT = '[project]\nname = "robustbench-med"\n'


@pytest.fixture(autouse=True)
def slow_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "GIT_TIMEOUT", LIMIT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with one commit and the package's file where it is today."""
    folder = tmp_path / "checkout"
    file = folder / Path(provenance.__file__).relative_to(Path(provenance.__file__).parents[2])
    file.parent.mkdir(parents=True)
    file.touch()
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "-m", "first")
    return folder


def git(folder: Path, *words: str) -> str:
    return run(["git", "-C", folder, *words]).stdout.strip()


def package_file(root: Path) -> Path:
    return next(root.rglob("provenance.py"))


def test_the_commit_of_a_checkout_and_its_changes(root: Path) -> None:
    head = git(root, "rev-parse", "HEAD")
    assert provenance.commit(package_file(root)) == head
    provenance.commit.cache_clear()
    (root / "new.py").touch()
    assert provenance.commit(package_file(root)) == f"{head}+changes"


def test_the_file_may_be_at_any_depth_and_the_checkout_a_worktree(root: Path, tmp_path: Path) -> None:
    git(root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "worktree"))
    assert (tmp_path / "worktree" / ".git").is_file()
    deep = tmp_path / "worktree" / "robustbench_med" / "a" / "b" / "c.py"
    assert checkout(deep) == tmp_path / "worktree"
    assert provenance.commit(deep) == git(root, "rev-parse", "HEAD")


def test_this_checkout_is_found_where_there_is_one() -> None:
    root = Path(__file__).parents[2]
    here = Path(provenance.__file__)
    if not (root / ".git").exists() or not here.is_relative_to(root):
        pytest.skip("the package that is tested is installed")
    assert checkout(here) == root
    assert str(provenance.commit()).startswith(git(root, "rev-parse", "HEAD"))


@pytest.mark.parametrize("text", [None, '[project]\nname = "another"\n', "not = [toml"])
def test_an_installed_package_has_no_commit(root: Path, text: str | None) -> None:
    if text is None:  # in an environment inside the checkout
        file = root / ".venv" / "lib" / "site-packages" / "robustbench_med" / "files" / "provenance.py"
    else:  # in a checkout of another project
        file = package_file(root)
        (root / "pyproject.toml").write_text(text, encoding="utf-8")
    assert checkout(file) is None
    assert provenance.commit(file) is None
