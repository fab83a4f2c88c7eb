"""Every study of a leaderboard, and what they add to its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from robustbench_med.files.escaping import csv_of, escape_markdown
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.ranks import rank_text
from robustbench_med.leaderboard.render.columns import with_interval
from robustbench_med.leaderboard.render.page.row_names import People
from robustbench_med.leaderboard.render.studies.attacks import attacks_study
from robustbench_med.leaderboard.render.studies.certified import certified_study
from robustbench_med.leaderboard.render.studies.corruptions import corruptions_study
from robustbench_med.leaderboard.render.studies.view import Cell, Study, Table, Titles
from robustbench_med.leaderboard.sources.names import Names
from robustbench_med.leaderboard.sources.studies import ATTACKS, CERTIFIED, CORRUPTIONS, StudySources
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted

_MADE: Mapping[str, Callable[[StudySources, Titles], Study | None]] = {
    CERTIFIED: certified_study,
    CORRUPTIONS: corruptions_study,
    ATTACKS: attacks_study,
}


def studies(sources: Mapping[str, StudySources], names: Names | None = None) -> list[Study]:
    """The studies that anything was measured of; ``names`` are those of components, for people."""
    people = People(names or {})
    made = []
    for name, make in _MADE.items():
        source = sources.get(name, StudySources())
        titles = Titles({key: name for record in source.records for key, name in _names(record, people).items()})
        made.append(make(source, titles))
    return [study for study in made if study is not None]


def _names(record: Record, people: People) -> dict[str, str]:
    """Names for people of the system, the attack and the data set of a record, by those of the command line."""
    whole = PartRef(record.dataset.name, {k: v for k, v in record.dataset.params_passed.items() if k != "fold"})
    return {
        identity.system_name(record): people.title(record),
        formatted(record.attack): people.attack(PartRef(record.attack.name, record.attack.params_passed)),
        record.dataset.name: people.data_set(PartRef(record.dataset.name)),
        format_ref(whole): people.data_set(whole),
    }


def to_markdown(found: Sequence[Study]) -> Iterator[str]:
    """The studies as sections of a page, line by line; a paragraph ends with an empty line."""
    for study in found:
        yield f"## {study.title}\n"
        yield f"{escape_markdown(study.learned)} [docs/{study.docs}](../docs/{study.docs})\n"
        for table in study.tables:
            yield f"### {escape_markdown(table.title)}\n"
            yield f"{escape_markdown(table.told)}\n"
            yield from _markdown(table)
            yield ""


def _markdown(table: Table) -> Iterator[str]:
    headings = [*(["#"] if table.ranked else []), table.head, *(column.heading for column in table.columns)]
    yield f"| {' | '.join(map(escape_markdown, headings))} |"
    yield f"| {'---: | ' if table.ranked else ''}--- | {' | '.join(['---:'] * len(table.columns))} |"
    for line in table.lines:
        control = " (control)" if line.control else ""
        name = ", ".join(filter(None, [line.title, line.name, line.small])) + control
        rank = f"{rank_text(line.rank, line.tied)} | " if table.ranked else ""
        yield f"| {rank}{escape_markdown(name)} | {' | '.join(map(_text, line.cells))} |"


def _text(cell: Cell) -> str:
    text = with_interval(cell.figure) if cell.figure is not None else cell.text
    text = ", ".join(filter(None, [text, cell.small]))
    return f"**{escape_markdown(text)}**" if cell.best else escape_markdown(text)


def to_csv(study: Study) -> str:
    """One line a row, shares in [0, 1], not rounded."""
    return csv_of(study.facts, list(dict.fromkeys(name for facts in study.facts for name in facts)))


def to_json(found: Sequence[Study]) -> str:
    """An object with the rows of each study, a line each."""
    parts = []
    for study in found:
        rows = ",\n".join(json.dumps(facts, allow_nan=False) for facts in study.facts)
        parts.append(f"{json.dumps(study.id)}: [\n{rows}]")
    return "{" + ",\n".join(parts) + "}"
