"""``rbmed check``: test whether components keep the contract of their kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_med.cli import console
from robustbench_med.cli.app import SETUP, app
from robustbench_med.cli.completion import any_component
from robustbench_med.cli.options import AsJson, DataRoot, PluginFiles, registry
from robustbench_med.errors import UsageError
from robustbench_med.grid.names import check_component
from robustbench_med.interfaces.plural import plural
from robustbench_med.plugins.entries import RegistryEntry
from robustbench_med.plugins.registry import HOOKS, Registry, singular

if TYPE_CHECKING:
    from robustbench_med.testing import Result, Subject

Names = Annotated[
    list[str] | None,
    typer.Argument(
        autocompletion=any_component,
        metavar="[NAME]...",
        help="attack/my-attack, attack/my-attack:steps=3, a distribution such as rbmed-foo; default: the files of -p.",
    ),
]


@app.command(rich_help_panel=SETUP)
def check(
    names: Names = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
    plugin: PluginFiles = None,
) -> None:
    """Test whether components keep the contract of their kind; exit code 1 if one does not."""
    known = registry(plugin)
    for name in names or []:  # before anything heavy is imported
        kind, slash, rest = name.partition("/")
        if slash and singular(kind) in HOOKS:
            check_component(known, singular(kind), rest)
        else:
            _of_distribution(known, name)
    from robustbench_med.testing import checks_of

    subjects = list(_subjects(known, names or [], data_root))
    found: list[Result] = []
    for subject in subjects:
        of_subject = [each.on(subject) for each in checks_of(subject.entry.spec.kind)]
        found += of_subject
        if not as_json:
            _show(subject, of_subject)
    wrong = sum(bool(result.faults) for result in found)
    if as_json:
        console.emit_json([_facts(result) for result in found])
    else:
        seconds = sum(result.seconds for result in found)
        checks, components = plural(len(found), "check"), plural(len(subjects), "component")
        console.plain(f"{checks} of {components} in {seconds:.1f} s: {wrong or 'none'} failed")
    if wrong:
        raise typer.Exit(1)


def _subjects(known: Registry, names: list[str], data_root: Path | None) -> Iterator[Subject]:
    from robustbench_med.plugins.references import parse
    from robustbench_med.testing import Subject

    # Other broken plugins do not matter here.
    files = {str(file.resolve()) for file in known.files}
    for broken in known.failures:
        if broken.plugin in files or broken.distribution in names:
            raise UsageError(str(broken))
    if not names:
        if not files:
            raise UsageError("nothing to check: name KIND/NAME or a distribution, or give a file with -p")
        yield from (Subject(known, entry, None, data_root) for entry in known.entries() if entry.plugin in files)
        return
    for name in names:
        kind, slash, rest = name.partition("/")
        if slash and singular(kind) in HOOKS:
            ref = parse(rest)
            yield Subject(known, known.find(singular(kind), ref.name), ref, data_root)
        else:
            yield from (Subject(known, entry, None, data_root) for entry in _of_distribution(known, name))


def _of_distribution(known: Registry, name: str) -> list[RegistryEntry]:
    entries = [entry for entry in known.entries() if entry.distribution == name]
    if not entries and name.endswith(".py"):
        raise UsageError(f"{name} is a file: rbmed -p {name} check tests what it offers")
    if not entries:
        offered = sorted({entry.distribution for entry in known.entries()})
        raise UsageError(f"{name!r} is neither KIND/NAME nor a distribution; distributions: {', '.join(offered)}")
    return entries


def _show(subject: Subject, found: list[Result]) -> None:
    table = console.table("check", "", "what must be true", "s", title=str(subject), right=("s",))
    for result in found:
        state = "FAULT" if result.faults else "-" if result.skipped else "ok"
        note = f" (not tested: {result.skipped})" if result.skipped else ""
        colour = "red" if result.faults else "dim" if result.skipped else ""
        console.row(table, result.check.name, state, result.check.about + note, f"{result.seconds:.2f}", style=colour)
        for fault in result.faults:
            console.row(table, "", "", f"-> {fault}", "", style="red")
    console.out.print(table, end="\n\n")


def _facts(result: Result) -> dict[str, Any]:
    return {
        "component": str(result.subject),
        "distribution": result.subject.entry.distribution,
        "check": result.check.name,
        "about": result.check.about,
        "faults": list(result.faults),
        "skipped": result.skipped,
        "seconds": result.seconds,
    }
