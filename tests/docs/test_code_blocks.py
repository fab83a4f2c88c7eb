"""The documentation is true: its blocks are run, in the order of the page, and what is not run says why."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from helpers.code_blocks import PAGES, ROOT, Block, blocks
from helpers.command import invoke
from typer.main import get_command

import robustbench_med as rbmed
from robustbench_med.cli.commands import certify
from robustbench_med.cli.main import app
from robustbench_med.grid.config import OPTIONS, build
from robustbench_med.grid.plan import Cell, plan
from robustbench_med.plugins.registry import HOOKS, Registry
from robustbench_med.plugins.specs import ACCESS

sys.path.append(str(ROOT / "tools"))
import docs_pages


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("my_", "net")):
            del sys.modules[name]


#: What commands that measure do where nothing else is said; in a planned block they are planned.
DEFAULTS: dict[str, dict[str, Any]] = {"run": {}, "certify": certify.DEFAULTS}


def runs(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.mark != "not run"]


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("configs", "leaderboard", "tools"):
        Path(name).symlink_to(ROOT / name)
    for block in runs(page):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            with contextlib.redirect_stdout(None):
                exec(compile(block.text, str(block), "exec"), {"__name__": "docs"})
        elif not block.language:
            for command in block.commands():
                assert command.startswith("rbmed "), f"{block}: only rbmed is run here; say why not: {command}"
                rbmed_command(block, shlex.split(command)[1:])
        elif block.language != "text":
            assert block.title, f"{block}: a block of {block.language} is saved under a title, or says why not"


def rbmed_command(block: Block, args: list[str]) -> None:
    if block.mark == "planned" and args[0] in DEFAULTS:
        assert planned(args), f"{block}: rbmed {shlex.join(args)} makes no cell"
        return
    done = invoke(*args)
    assert done.exit_code == 0, f"{block}: rbmed {shlex.join(args)}\n{done.output}\n{done.exception!r}"


def planned(args: list[str]) -> list[Cell]:
    """The cells of a command that measures, as far as they are known without data and weights."""
    name, *options = args
    given = get_command(app).commands[name].make_context(name, options).params  # type: ignore[attr-defined]
    asked = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    asked = {key: value for key, value in asked.items() if key in OPTIONS}
    file = Path(given["config"]) if given["config"] else None
    if name == "certify":
        asked["certify"] = True
    return [cell for cell in plan(build(asked, file, DEFAULTS[name]), Registry()) if isinstance(cell, Cell)]


def test_a_block_that_is_not_run_says_why() -> None:
    assert [str(block) for page in PAGES for block in blocks(page) if block.mark and len(block.why) < 10] == []


def test_every_option_has_help_and_is_on_the_generated_page() -> None:
    page = docs_pages.commands()  # raises where help is missing
    for name, command in docs_pages.every_command(get_command(app), "rbmed"):
        assert f"## {name}\n" in page
        assert all(f"`{text}`" in page for option in command.params for text in option.opts if text.startswith("-"))


def test_a_terminal_shows_the_whole_help() -> None:
    """Also of arguments, and what is in brackets."""
    for name, command in docs_pages.every_command(get_command(app), "rbmed"):
        printed = invoke(*name.split()[1:], "--help", env={"COLUMNS": "300"}).stdout
        shown = " ".join(printed.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())
        helps = [" ".join(docs_pages.help_of(command, option).replace("`", "").split()) for option in command.params]
        assert [text for text in helps if text not in shown] == [], name


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_the_site_keeps_links_to_its_pages_and_names_other_files(page: Path) -> None:
    where = SimpleNamespace(file=SimpleNamespace(src_uri=page.relative_to(ROOT / "docs").as_posix()))
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)[^)]*\)", text)
    inside = [link for link in links if (page.parent / link).resolve().is_relative_to(ROOT / "docs")]
    assert re.findall(r"\]\(([^)#:]+)[^)]*\)", docs_pages.on_page_markdown(text, where)) == inside


def test_the_picture_of_the_ladder_has_every_rung() -> None:
    picture = (ROOT / "docs" / "images" / "ladder.svg").read_text(encoding="utf-8")
    assert re.findall(r'text-anchor="middle">([^<]+)<', picture) == list(ACCESS)


def test_a_silent_option_is_found_out() -> None:
    silent = click.Command("quiet", params=[click.Option(["--loud"])], callback=lambda loud: None)
    with pytest.raises(RuntimeError, match="quiet: loud has no help"):
        docs_pages.help_of(silent, silent.params[0])


def test_every_key_of_a_run_is_described() -> None:
    assert [name for name, option in OPTIONS.items() if not option.metadata["description"]] == []


def test_every_hook_and_public_name_is_documented() -> None:
    from robustbench_med.plugins import hookspecs

    assert [hook for hook in HOOKS.values() if "Example::" not in (getattr(hookspecs, hook).__doc__ or "")] == []
    values = {name: getattr(rbmed, name) for name in rbmed.__all__}
    assert [name for name, value in values.items() if callable(value) and not value.__doc__] == []


def test_every_page_is_on_the_site() -> None:
    listed = set(re.findall(r"- ([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages <= listed
    assert {page for page in listed - pages if not page.startswith("reference/")} == set()
