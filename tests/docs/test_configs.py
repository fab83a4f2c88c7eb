"""Configuration files and documentation stay true: they are parsed, planned and compared with what exists."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.paths import ROOT
from typer.main import get_command

from robustbench_med.attacks.flags import FLAGS
from robustbench_med.cli.main import app
from robustbench_med.grid.cell import Cell, cell_labels, cell_of
from robustbench_med.grid.config import OPTIONS, build
from robustbench_med.grid.filters import CELL_LABELS, read
from robustbench_med.grid.ladder import PRESETS
from robustbench_med.grid.plan import plan
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import ACCESS

DOCS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "leaderboard" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.toml")), ids=lambda file: file.stem)
def test_shipped_configurations_make_a_plan(file: Path) -> None:
    cells = list(plan(build({}, file), Registry()))
    assert sum(isinstance(cell, Cell) for cell in cells) >= 1
    assert all(isinstance(cell, Cell) or "already sees the whole system" in cell.reason for cell in cells)


def test_the_example_of_a_grid_makes_a_plan(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "grid.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml[^\n]*\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "grid.toml"
    file.write_text(example, encoding="utf-8")
    clients = [f"hospital-{number}" for number in range(1, 5)]
    config = build({"client": clients}, file)
    names = [cell_labels(cell_of(each)) for each in plan(config, Registry())]
    assert {name["client"] for name in names} == set(clients)
    whole = replace(config, exclude=())
    every = [cell_labels(cell_of(each)) for each in plan(whole, Registry())]
    assert all(any(read(pattern).fits(name) for name in every) for pattern in config.exclude)
    assert len(names) < len(every)
    assert all(f"`{key}`" in text for key in CELL_LABELS)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_commands_and_components_in_the_docs_exist(page: Path) -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"\brbmed ([a-z]+)\b", text):
        assert command in commands, f"rbmed {command}"
    registry = Registry()
    for kind, name in re.findall(r"rbmed show ([a-z]+)/([a-z0-9-]+)", text):
        registry.find(kind, name)
    for file in re.findall(r"(?:configs|tools)/[\w.-]+\.(?:toml|py)", text):
        assert (ROOT / file).is_file(), file


def test_every_rung_preset_flag_and_attack_is_documented() -> None:
    ladder = (ROOT / "docs" / "ladder.md").read_text(encoding="utf-8")
    missing = [name for name in (*ACCESS, *PRESETS, *FLAGS) if f"`{name}`" not in ladder]
    attacks = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    ours = [entry.spec.name for entry in Registry().entries("attack") if entry.distribution == "rbmed-attacks"]
    assert not missing + [name for name in ours if f"| `{name}` |" not in attacks]


def options(command: str) -> set[str]:
    """The long options of a command, as keys."""
    names = [option for p in get_command(app).commands[command].params for option in p.opts]  # type: ignore[attr-defined]
    return {name[2:].replace("-", "_") for name in names if name.startswith("--")}


def test_options_and_keys_of_a_run_are_the_same() -> None:
    only_typed = {"report", "json", "quiet", "plugin"}  # what is printed, and from where
    assert options("run") - only_typed == set(OPTIONS) - {"probe_limit"}
    assert options("plan") - only_typed - {"estimate", "no_estimate"} == options("run") - only_typed


def test_how_a_defense_is_trained_can_be_said_to_both_commands_and_is_documented() -> None:
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    shared = {"model", "strategy", "adversarial", "malicious", "engine", "partition", "unseen_site"}
    assert shared <= options("run") & options("train")
    missing = [key for key in (*shared, "train", "train_seed") if f"| `--{key.replace('_', '-')}` |" not in page]
    assert not missing


@pytest.mark.parametrize(
    "script", sorted([*ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py")]), ids=lambda p: p.name
)
def test_scripts_import_what_exists(script: Path) -> None:
    """They are run by hand and seldom; a renamed function would otherwise go unnoticed."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("robustbench_med", "rbmed_")):
            source = node.module or ""
            module = importlib.import_module(source)
            for alias in node.names:
                found = hasattr(module, alias.name) or importlib.util.find_spec(f"{source}.{alias.name}")
                assert found, f"{source}.{alias.name}"
