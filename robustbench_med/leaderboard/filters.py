"""Selection of rows of the boards, and their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from robustbench_med.errors import BadParameter
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import TRACKS, Entry
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.clients import METRICS
from robustbench_med.leaderboard.render.columns import BY_NAME, Column
from robustbench_med.plugins.specs import NORMS
from robustbench_med.records.record import Record


@dataclass(frozen=True)
class Choice:
    """Which rows are selected; None selects all.

    Attributes:
        dataset: name of a data set.
        norm, eps: of the threat model; ``4/255`` or a number.
        track: a track, or the beginning of one.
        client: rows that attacked it, with this client's figures; ranks are left out then.
        sort: a column; "" keeps the order of rank.
        ranked: leave out rows without rank.
    """

    dataset: str | None = None
    norm: str | None = None
    eps: str | None = None
    track: str | None = None
    client: str | None = None
    sort: str = ""
    ranked: bool = False


def chosen(boards: Sequence[Board], choice: Choice) -> list[Board]:
    """Boards with the selected rows, without empty boards.

    Raises:
        BadParameter: no board has a value; the message lists the valid ones.
    """
    check_words(choice)
    check_values([record for board in boards for entry in board.entries for record in entry.records], choice)
    found = []
    for board in boards:
        if choice.dataset not in (None, board.dataset) or choice.norm not in (None, board.norm):
            continue
        if choice.eps is not None and not _near(choice.eps)(board.eps):
            continue
        all_sections = [replace(each, entries=tuple(_entries(each.entries, choice))) for each in board.sections]
        sections = [section for section in all_sections if section.entries]
        unranked = tuple(_entries(board.unranked, choice))
        if sections or unranked:
            found.append(replace(board, sections=tuple(sections), unranked=unranked))
    return found


def check_words(choice: Choice) -> None:
    """Check what can be told without any board.

    Raises:
        BadParameter: there is no such norm, track or column, or the eps is no number.
    """
    if choice.norm is not None and choice.norm not in NORMS:
        raise BadParameter(f"--norm {choice.norm}: no row has it; valid: {', '.join(NORMS)}")
    if choice.track is not None and not any(track.startswith(choice.track) for track in TRACKS):
        raise BadParameter(f"--track {choice.track}: valid: {', '.join(TRACKS)}")
    if choice.eps is not None:
        _eps(choice.eps)
    if choice.sort:
        columns(choice.sort)


def check_values(records: Iterable[Record], choice: Choice) -> None:
    """Check what records alone tell, before images are read and rows are ranked.

    Raises:
        BadParameter: no record has a value; the message lists the valid ones.
    """
    measured = [record for record in records if record.status == "ok"]
    radii = {record.threat.eps: identity.eps_text(record) for record in measured}
    valid = {
        "dataset": sorted({record.dataset.name for record in measured}),
        "client": sorted({client for record in measured for client in record.clients}),
        "eps": [radii[eps] for eps in sorted(radii)],
    }
    for name, values in valid.items():
        asked = getattr(choice, name)
        if asked is not None and asked not in values and not (name == "eps" and any(map(_near(asked), radii))):
            raise BadParameter(f"--{name} {asked}: no row has it; valid: {', '.join(values) or 'none'}")


def columns(names: str, valid: Sequence[str] = tuple(BY_NAME)) -> list[Column]:
    """Columns by their names, separated by commas.

    Raises:
        BadParameter: there is no such column.
    """
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in BY_NAME:
            raise BadParameter(f"there is no column {name!r}; valid: {', '.join(valid)}")
    return [BY_NAME[name] for name in wanted]


def _entries(entries: Sequence[Entry], choice: Choice) -> list[Entry]:
    wanted = [
        entry
        for entry in entries
        if (choice.track is None or entry.track.startswith(choice.track)) and (entry.ranked or not choice.ranked)
    ]
    if choice.client is not None:
        wanted = list(_of_client(wanted, choice.client))
    if choice.sort:
        (column,) = columns(choice.sort)
        known = [entry for entry in wanted if column.value(entry) is not None]
        known.sort(key=lambda entry: column.value(entry), reverse=column.falling)  # type: ignore[arg-type, return-value]
        wanted = known + [entry for entry in wanted if column.value(entry) is None]
    return wanted


def _of_client(entries: Sequence[Entry], client: str) -> Iterator[Entry]:
    """The rows that attacked a client, with its figures; a rank is that of all clients, and left out."""
    found = []
    for each in entries:
        entry = each
        if figures := entry.per_client.get(client):
            own = {name: figures.get(name) for name in (*METRICS, "answered")}
            count = entry.client_images.get(client)
            if count is not None:
                entry = replace(entry, images=count.images, patients=count.patients)
            found.append(replace(entry, **own, rank=None, claim=None, drop=None, rungs=()))  # type: ignore[arg-type]
    yield from sorted(found, key=lambda entry: -entry.worst.value if entry.worst else 0.0)


def _near(eps: str) -> Callable[[float], bool]:
    """Whether a radius is this one, however it was written."""
    return partial(math.isclose, _eps(eps), rel_tol=1e-6)


def _eps(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise BadParameter(f"--eps {text}: write a number or a fraction, as 4/255") from None
