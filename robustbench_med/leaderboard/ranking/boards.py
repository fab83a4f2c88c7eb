"""Records -> boards: rows gathered, sorted into sections that may be compared, and ranked."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from robustbench_med.leaderboard import parallel
from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.entry import TRACKS, Entry
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.answers import Shares, lesion_class
from robustbench_med.leaderboard.ranking.entries import Known, entry, separate, slugged
from robustbench_med.leaderboard.ranking.folds import Pools, pooled
from robustbench_med.leaderboard.ranking.identical import identical
from robustbench_med.leaderboard.ranking.ranks import RankInput, ranks
from robustbench_med.leaderboard.ranking.rows import RowRecords, rows, unique
from robustbench_med.leaderboard.ranking.worst_case import Against
from robustbench_med.leaderboard.sources.claims import Publications
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.names import Names
from robustbench_med.leaderboard.sources.verified import Word
from robustbench_med.plugins.references import format_params
from robustbench_med.plugins.specs import NORMS
from robustbench_med.records.record import Record

#: Ladders from the strongest to the weakest; others come after them.
LADDERS = ("ladder:full", "ladder:standard", "ladder:quick")


def boards(
    records: Iterable[Record],
    outcomes: Mapping[str, ImageResults] | None = None,
    published: Publications | None = None,
    evidence: Sequence[Evidence] = (),
    owners: Mapping[str, str] | None = None,
    words: Mapping[str, Word] | None = None,
    names: Names | None = None,
) -> list[Board]:
    """Every board, by data set and threat model. The order of the records does not matter.

    Args:
        records: of any cells; what is superseded is left out.
        outcomes: per-image results by cell.
        published: claims, papers and data sets of others.
        evidence: answers to adversarial images of others.
        owners: the submission of a cell that was not measured here; a submission supersedes its own rows only.
        words: of maintainers, by cell; without them a submission has no rank.
        names: of components, for people.
    """
    published = published or Publications()
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    pools = pooled(Pools(unique(records), outcomes or {}, evidence, owners or {}, words or {}))
    every, kept, own = pools.records, pools.outcomes, pools.owners
    for record in every:
        groups[identity.board_key(record)].append(record)
    same = {
        owner: identical([record for record in every if own.get(record.cell_id, "") == owner], kept)
        for owner in {"", *own.values()}
    }
    asked: list[tuple[RowRecords, Known]] = []
    counts = []
    for group in groups.values():
        # What was measured here says what the data set is; what others say of it only where nothing was.
        here = [record for record in group if record.cell_id not in own] or group
        against, lesion = _on_board(group, pools.evidence), lesion_class(here, kept)
        known = Known(kept, published, against, lesion, owners=own, words=pools.words, names=names or {})
        before = len(asked)
        asked += _rows(group, known, same)
        counts.append(len(asked) - before)
    entries = iter(parallel.done(lambda at: entry(*asked[at]), len(asked), [*every, *kept.values()]))
    made = [
        _board(key, group, own, list(separate(list(itertools.islice(entries, count)))), published)
        for (key, group), count in zip(groups.items(), counts, strict=True)
    ]
    return ordered(made)


def ordered(boards: Iterable[Board]) -> list[Board]:
    """Those with ranks, real images, a whole cross-validation, more images and Linf come before others."""
    every, tested, whole = list(boards), Counter[tuple[str, ...]](), set()
    for board in every:
        tested[board.same_data] = max(tested[board.same_data], *(each.images for each in board.sections), 0)
        if any(
            each.folds and each.folds == each.measured_folds for section in board.sections for each in section.entries
        ):
            whole.add(board.same_data)
    return sorted(every, key=lambda board: _place(board, tested[board.same_data], board.same_data in whole))


def _place(board: Board, tested: int, whole: bool) -> tuple[Any, ...]:
    norm = NORMS.index(board.norm) if board.norm in NORMS else len(NORMS)
    ranked = any(each.ranked for section in board.sections for each in section.entries)
    return (
        not ranked,
        board.synthetic,
        not whole,
        -tested,
        all(section.patients is None for section in board.sections),
        board.same_data,
        norm,
        board.norm,
        board.eps,
        board.goal,
        board.id,
    )


def _rows(
    records: Sequence[Record], known: Known, same: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[RowRecords, Known]]:
    """The rows of a board, and what is known of each."""
    systems: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        owner = known.owners.get(record.cell_id, "")
        systems[owner, same[owner][identity.system_key(record)]].append(record)
    for (owner, system), group in systems.items():
        of = replace(known, system=system, owner=owner)
        yield from ((row, of) for row in rows(group))


def _board(
    key: tuple[str, ...],
    records: Sequence[Record],
    owners: Mapping[str, str],
    entries: Sequence[Entry],
    published: Publications,
) -> Board:
    first = min(records, key=lambda record: (record.cell_id in owners, record.cell_id))
    name = f"{slugged(first)}-{identity.digest_of(*key)[:6]}"
    sections: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for each in entries:
        if each.ranked or each.earlier:
            sections[each.track, each.ladder, each.images, each.clients, each.earlier].append(each)
    return Board(
        id=name,
        dataset=first.dataset.name,
        digest=first.dataset.digest or "",
        options=format_params(first.dataset.params_passed),
        partition=first.dataset.partition or "",
        synthetic=first.dataset.synthetic,
        licence=first.dataset.licence,
        norm=first.threat.norm,
        eps=first.threat.eps,
        eps_text=identity.eps_text(first),
        goal=first.threat.goal,
        sections=tuple(_section(name, facts, sections[facts]) for facts in sorted(sections, key=_order)),
        unranked=tuple(sorted((each for each in entries if not (each.ranked or each.earlier)), key=_by_name)),
        claims=tuple(claim for claim in published.claims if claim.dataset == first.dataset.name),
        data=published.datasets.get(first.dataset.digest or ""),
    )


def _on_board(records: Sequence[Record], evidence: Sequence[Evidence]) -> list[Against]:
    """Evidence on cells of a board, in order of names."""
    cells = {record.cell_id: record for record in records} if evidence else {}
    ordered = sorted(evidence, key=lambda each: each.name)
    return [(cells[each.cell_id], each) for each in ordered if each.cell_id in cells]


def _section(board: str, key: tuple[Any, ...], entries: Sequence[Entry]) -> Section:
    track, ladder, n, clients, earlier = key
    ranked = list(entries)
    if not earlier:
        found = ranks([_rank_input(each) for each in entries])
        ranked = [replace(each, rank=rank.rank, tied=rank.tied) for each, rank in zip(entries, found, strict=True)]
    ranked.sort(key=lambda each: (each.rank or 0, -(each.worst.value if each.worst else 0.0), *_by_name(each)))
    facts = key if earlier else key[:4]
    name = identity.slug(board, track, ladder, str(n)) + "-" + identity.digest_of(*facts)[:6]
    return Section(name, track, ladder, n, clients, tuple(ranked), _one_answer(entries))


def _one_answer(entries: Sequence[Entry]) -> float | None:
    """Share of the images with the most frequent label; None where no row knows the labels, or all are the same."""
    labels = next((each.answers[0].labels for each in entries if each.answers), ())
    counts = np.unique(labels, return_counts=True)[1]
    return float(counts.max() / counts.sum()) if len(counts) > 1 else None


def _rank_input(each: Entry) -> RankInput:
    assert each.worst is not None
    answers = each.answers
    low, high = each.worst.interval or (each.worst.value, each.worst.value)
    if not answers or any(other.index != answers[0].index for other in answers):
        return RankInput(each.worst.value, low, high)
    images: Shares = np.mean([other.withstood for other in answers], axis=0)
    index = answers[0].index
    return RankInput(each.worst.value, low, high, images, index, answers[0].patients or index)


def _by_name(each: Entry) -> tuple[str, ...]:
    return (each.defense, each.strategy, each.model, each.ladder, each.id)


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sections with ranks first, by track, then the strongest ladder and most images."""
    track, ladder, n, clients, earlier = key
    name = ladder.partition(" (revision ")[0]
    strength = LADDERS.index(name) if name in LADDERS else len(LADDERS)
    return (earlier, TRACKS.index(track), strength, ladder, -n, clients)
