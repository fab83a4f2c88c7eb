"""Ladders on the folds of a cross-validation, each with weights of its own, and the answers on their images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from helpers.records import ladder_record, outcome
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record, dumped, parse

#: What is robust in each of three folds.
SAFE = ([True, False] * 4, [True] * 6, [False] * 10)


ASKED = {"partition": None, "unseen_site": [], "client": []}


def fold(number: int, safe: list[bool], name: str = "f", seed: int = 0, of: int = 3, **fields: Any) -> Record:
    """The ladder on one fold, with weights of its own."""
    params = {"folds": str(of), "fold": str(number)}
    made = ladder_record(f"{name}{number}{seed}", safe, name, seed, patients=len(safe) // 2, **fields)
    facts = json.loads(dumped(made))
    facts["dataset"] |= {
        "params_passed": params,
        "digest": f"digest{number}",
        "fold": {"number": number, "of": of, "pool": "pool"},
        "asked": {"dataset": f"d:folds={of},fold={number}", **ASKED},
    }
    facts["attack"]["asked"] = {"access": "ladder"}
    facts["defense"]["weights"]["digest"] = f"w{name}{seed}{number}"
    facts["client_images"] = {client: [len(safe) // 2, len(safe) // 4] for client in "ab"}
    return parse(json.dumps(facts))


def answers(record: Record, safe: list[bool]) -> ImageResults:
    """Two images of each patient; patients of clients a and b in turn."""
    made = outcome(record.cell_id, safe)
    number = record.dataset.fold.number if record.dataset.fold else 0
    people = [row // 2 for row in range(len(safe))]
    return replace(
        made,
        patients=tuple(f"{number}-{person}" for person in people),
        sites=tuple("ab"[person % 2] for person in people),
    )


def system(
    safe: Sequence[list[bool]] = SAFE, name: str = "f", seed: int = 0
) -> tuple[list[Record], dict[str, ImageResults]]:
    records = [fold(number, each, name, seed, len(safe)) for number, each in enumerate(safe)]
    return records, {record.cell_id: answers(record, own) for record, own in zip(records, safe, strict=True)}


def only(records: Sequence[Record], outcomes: dict[str, ImageResults]) -> tuple[Board, Entry]:
    (board,) = boards(records, outcomes)
    (entry,) = board.entries
    return board, entry


def edited(record: Record, *path: str | int, value: Any) -> Record:
    """The record with another value at a place."""
    facts = json.loads(dumped(record))
    place: Any = facts
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return parse(json.dumps(facts))
