"""Boards as JSON and CSV, for programs and spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from robustbench_med.files.escaping import csv_of
from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.entry import Claim, Count, Entry, Figure, Mark, Paper, RungFigure
from robustbench_med.leaderboard.ranking.pool import cells
from robustbench_med.leaderboard.render.studies.all import to_json as of_studies
from robustbench_med.leaderboard.render.studies.view import Study
from robustbench_med.plugins.specs import ACCESS

#: Version of ``leaderboard.json``.
FORMAT = 1
#: Fields of what is written as it is.
_NAMES = {kind: tuple(each.name for each in fields(kind)) for kind in (Entry, RungFigure, Mark, Claim, Paper, Count)}
#: Of an entry: what JSON says otherwise, or leaves to the records.
_ASIDE = {
    *("scorings", "per_client", "client_images", "records", "outcomes", "answers", "claim_records", "measured_folds"),
}
_FIGURES = (
    *("clean", "worst", "answered", "claim", "claim_all", "clean_sensitivity", "clean_specificity", "sensitivity"),
    *("specificity", "hidden_lesion", "fake_lesion", "fpr", "tpr", "auroc", "worst_client_accuracy"),
    "fresh",
)


def to_json(boards: Sequence[Board], studies: Sequence[Study] = ()) -> str:
    """Everything a board says, and the rows of studies; shares in [0, 1], not rounded; records by their cell ids."""
    beside = f', "studies": {of_studies(studies)}' if studies else ""
    text = f'{{"format": {FORMAT}, "boards": [\n{_lines(map(_board, boards))}]{beside}}}\n'
    # In a script of a page, nothing in it may end the script.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _board(board: Board) -> str:
    facts = {each.name: getattr(board, each.name) for each in fields(board)}
    plain = facts | {
        "title": board.title,
        "claims": [_plain(claim) for claim in board.claims],
        "data": asdict(board.data) if board.data else None,
    }
    sections, unranked = plain.pop("sections"), plain.pop("unranked")
    lists = {"sections": map(_section, sections), "unranked": map(_entry, unranked)}
    return _with_lists(plain, lists)


def _section(section: Section) -> str:
    facts = {each.name: getattr(section, each.name) for each in fields(section)}
    return _with_lists(facts, {"entries": map(_entry, facts.pop("entries"))})


def _entry(entry: Entry) -> str:
    return _dumps(entry_facts(entry))


def _with_lists(facts: dict[str, Any], lists: Mapping[str, Iterator[str]]) -> str:
    """An object whose long lists have a line for each item, so that a change is seen in a diff."""
    return _dumps(facts)[:-1] + "".join(f', "{name}": [\n{_lines(items)}]' for name, items in lists.items()) + "}"


def _lines(items: Iterator[str]) -> str:
    return ",\n".join(items)


def _dumps(facts: Any) -> str:
    return json.dumps(facts, allow_nan=False)


def entry_facts(entry: Entry) -> dict[str, Any]:
    """An entry as plain values."""
    facts = {name: getattr(entry, name) for name in _NAMES[Entry] if name not in _ASIDE}
    return facts | {
        **{name: _figure(getattr(entry, name)) for name in _FIGURES},
        **({"scorings": {name: _figure(each) for name, each in entry.scorings.items()}} if entry.scorings else {}),
        "rungs": [_plain(rung) for rung in entry.rungs],
        "marks": [_plain(mark) for mark in entry.marks],
        "claims": [_plain(claim) for claim in entry.claims],
        "paper": _plain(entry.paper) if entry.paper else None,
        "per_client": {
            client: {side: _figure(figures.get(side)) for side in ("clean", "worst")}
            for client, figures in entry.per_client.items()
        },
        "client_images": {client: _plain(count) for client, count in entry.client_images.items()},
        "records": [record.cell_id for record in cells(entry.records)],
        "claim_records": [record.cell_id for record in cells(entry.claim_records)],
    }


def _plain(facts: Any) -> dict[str, Any]:
    """The fields of a dataclass whose values are plain; `dataclasses.asdict` copies each of them."""
    return {name: getattr(facts, name) for name in _NAMES[type(facts)]}


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    more = {"by_images": True} if figure.by_images else {}
    return {name: getattr(figure, name) for name in ("value", "low", "high", "seeds")} | more


def to_csv(boards: Sequence[Board]) -> str:
    """One line an entry, shares in [0, 1], not rounded."""
    rows = [_row(board, section, entry) for board in boards for section, entry in board.placed]
    return csv_of(rows, list(rows[0]) if rows else ["board"])


def _row(board: Board, section: Section | None, entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {
        "board": board.id,
        "dataset": board.dataset,
        "dataset_params": board.options,
        "partition": board.partition,
        "synthetic": board.synthetic,
        "norm": board.norm,
        "eps": board.eps,
        "goal": board.goal,
        "section": section.id if section else "",
        "track": entry.track,
        "ladder": entry.ladder,
        "images": entry.images,
        "patients": entry.patients,
        "folds": entry.folds,
        "rank": entry.rank,
        "tied": entry.tied if entry.ranked else None,
        "ranked": entry.ranked,
        "why_not": entry.why_not,
        "id": entry.id,
        "same_as": "; ".join(entry.also),
        "defense": entry.defense,
        "strategy": entry.strategy_full,
        "model": entry.model,
    }
    for name in _FIGURES:
        figure = getattr(entry, name)
        row[name] = figure.value if figure else None
        row[f"{name}_low"], row[f"{name}_high"] = figure.interval or (None, None) if figure else (None, None)
    count = entry.client_images.get(entry.worst_client or "")
    row |= {
        "by_images": " ".join(name for name in _FIGURES if (found := getattr(entry, name)) and found.by_images),
        "drop": entry.drop,
        "claim_attack": entry.claim_attack,
        "claim_images": entry.claim_images or None,
        **{f"rung_{access}": entry.rung(access) for access in ACCESS},
        "worst_client": entry.worst_client,
        "worst_client_images": count.images if count else None,
        "worst_client_patients": count.patients if count else None,
        "gradients": entry.gradients,
        "queries": entry.queries,
        "ms": entry.ms,
        "parameters": entry.parameters,
        "train_seeds": " ".join(map(str, entry.train_seeds)),
        "seeds": " ".join(map(str, entry.seeds)),
        "draws": entry.draws,
        "flags": " ".join(mark.flag for mark in entry.marks),
        "verified": entry.verified,
        "fresh_images": entry.fresh_images,
        "paper": entry.paper.text if entry.paper else "",
        "paper_url": entry.paper.url if entry.paper else "",
        "date": entry.date,
        "records": " ".join(record.cell_id for record in cells(entry.records)),
    }
    return row
