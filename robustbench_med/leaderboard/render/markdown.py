"""Boards as Markdown that a forge renders: ``leaderboard/README.md``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustbench_med.files.escaping import escape_markdown
from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.entry import Claim, Entry
from robustbench_med.leaderboard.ranking.lesions import by_lesion
from robustbench_med.leaderboard.render.columns import BY_NAME, Column, as_published, with_interval
from robustbench_med.leaderboard.render.studies.all import to_markdown as of_studies
from robustbench_med.leaderboard.render.studies.view import Study
from robustbench_med.plugins.specs import ACCESS
from robustbench_med.records.summary import images_of

MAIN = (
    *("rank", "defense", "strategy", "model", "clean", "robust", "answered", "claim", "drop", "sensitivity"),
    *("specificity", "hidden", "fpr", "tpr", "worst-client", "fresh", "seeds", "flags", "published"),
    *("verified", "paper", "date"),
)
MORE = (
    *("rank", "defense", "strategy"),
    *(f"rung-{access}" for access in ACCESS),
    # Only where they were requested: in most records they are not.
    *("fixed-noise", "8-bits"),
    *("gradients", "queries", "ms", "parameters"),
)
UNRANKED = (
    *("defense", "strategy", "model", "ladder", "images", "clean", "robust", "claim", "fresh", "seeds", "flags"),
    "verified",
)
#: What a reader should know of a ladder.
NOTES = {
    "ladder:quick": "The quick ladder can show that a defense fails, not that it is robust.",
    "ladder:standard": "The standard ladder has the noise draws of a published row, with fewer steps and images.",
}
HEAD = """\
# Leaderboard

How much of its accuracy a defense keeps under the worst attack that we know, image by image. `rbmed leaderboard build`
makes this page from the records beside it; do not edit it. How rows are ranked, refused, contested and submitted:
[docs/leaderboard.md](../docs/leaderboard.md). Terms: [glossary](../docs/glossary.md). The same as
[CSV](leaderboard.csv), [JSON](leaderboard.json) and [LaTeX](leaderboard.tex).

- A rank counts within its table: one track, one ladder, the same images. It is one plus the number of rows that are
  significantly better, and = means that at least one other row is not significantly different: differences are tested
  between patients, corrected for all pairs of the table.
- **robust**: accuracy under the worst known attack, with its 95 % interval, which counts patients where they are known.
  **claim**: under an attacker who does not know the defense, the setting most papers report. **drop**: claim minus
  robust; all are of the same images.
- **answered right**: of a system that withholds answers, the share of attacked images that get one, and the right one.
  Its **robust** also counts an answer withheld from an image that it answers right when it is not attacked.
- **seeds**: of the trainings that figures are means over; where there is one training, of the attack. Differences to a
  row of one training are between its weights and others, and may not hold for another training.
- **rung by rung**: images still robust so far, by the noise draws that choose the worst image. **robust** is scored on
  other draws, so that it may be higher where a system draws noise.
- **worst client**: with its interval and number of images/patients. Of fewer than 20 images it says too little.
- **published**: what authors report, clean / attacked, on their data and with their attacks, not measured here.
- **fresh**: robust on images that nobody had seen when the defense was trained and handed in. **verified**: which
  maintainer ran the cells of a submission again. Rows without it were measured here.
- A mark is a flag of the diagnostics: the attack may be weaker than it seems. Its meaning is below the table.
"""


def to_markdown(
    boards: Sequence[Board],
    claims: Sequence[Claim] = (),
    head: str = HEAD,
    notice: str = "",
    studies: Sequence[Study] = (),
) -> str:
    """The boards as one page, with ``head`` and ``notice`` above and ``studies`` below.

    ``claims`` are all that are known, shown at its end.
    """
    lines = [head, f"> {escape_markdown(notice)}\n"] if notice else [head]
    for board in boards:
        lines += [*_board(board), ""]
    lines += of_studies(studies)
    if claims:
        lines += ["## Published claims", "", *_claims(claims), ""]
    return "\n".join(lines)


def _board(board: Board) -> Iterator[str]:
    yield f"## {escape_markdown(board.title)}\n"
    if board.synthetic:
        yield "Synthetic images: figures here say nothing about patients.\n"
    for section in board.sections:
        yield from _section(section)
    if board.claims:
        yield "Published on data of this name, not measured here:\n"
        yield from _claims(board.claims)
        yield ""
    if board.unranked:
        yield f"<details><summary>{plural(len(board.unranked), 'row')} without rank</summary>\n"
        yield from _table(board.unranked, [BY_NAME[name] for name in UNRANKED], why=True)
        yield ""
        yield "</details>"


def _section(section: Section) -> Iterator[str]:
    clients = f", {len(section.clients)} clients" if len(section.clients) > 1 else ""
    images = images_of(section.images, section.patients)
    yield f"### {section.track.capitalize()}: {escape_markdown(section.ladder)}, {images}{clients}\n"
    for told in section.notes:
        yield f"{told}\n"
    if note := NOTES.get(section.ladder):
        yield f"{note}\n"
    yield from _table(section.entries, [BY_NAME[name] for name in MAIN])
    yield ""
    marks = {mark.flag: mark.meaning for entry in section.entries for mark in entry.marks}
    lowered = [entry for entry in section.entries if entry.lowered]
    same = [entry for entry in section.entries if entry.also]
    for entry in same:
        yield f"- {escape_markdown(entry.defense)}: the same system as {escape_markdown('; '.join(entry.also))}"
    for flag, meaning in sorted(marks.items()):
        yield f"- {escape_markdown(flag)}: {escape_markdown(meaning)}"
    for entry in lowered:
        others = escape_markdown("; ".join(entry.lowered))
        yield f"- {escape_markdown(entry.defense)}: other attacks broke images too: {others}"
    if marks or lowered or same:
        yield ""
    for name in LESIONS:
        yield from _by_lesion(section, name)
    yield "<details><summary>Rung by rung, and cost</summary>\n"
    yield from _table(section.entries, [BY_NAME[name] for name in MORE], anchors=False)
    yield ""
    yield "</details>\n"


def _by_lesion(section: Section, name: str) -> Iterator[str]:
    """Worst case of each row by a measurement of the lesions, where the data set has it."""
    every = [(entry, by_lesion(entry.answers or entry.outcomes, name)) for entry in section.entries]
    found = [(entry, ranges) for entry, ranges in every if ranges]
    if not found:
        return
    seen = {each.text for _, ranges in found for each in ranges}
    texts = [text for text in LESIONS[name].ranges if text in seen]
    yield f"<details><summary>Lesions still found in the worst case, %, by {name}</summary>\n"
    yield f"| {LESIONS[name].title} | {' | '.join(texts)} |"
    yield f"| --- | {' | '.join(['---:'] * len(texts))} |"
    for entry, ranges in found:
        cells = {each.text: f"{with_interval(each.worst)}, n={each.images}" for each in ranges}
        # The strategy too: one defense may be there with several.
        row = [escape_markdown(f"{entry.defense}, {entry.strategy}"), *(cells.get(text, "") for text in texts)]
        yield f"| {' | '.join(row)} |"
    yield ""
    yield "</details>\n"


def _table(
    entries: Sequence[Entry], columns: Sequence[Column], anchors: bool = True, why: bool = False
) -> Iterator[str]:
    """A table, columns that no row fills left out; ``why`` adds why rows have no rank."""
    shown = [column for column in columns if any(column.text(entry) for entry in entries)]
    titles = [column.title for column in shown] + (["why it has no rank"] if why else [])
    rules = ["---:" if column.right else "---" for column in shown] + (["---"] if why else [])
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join(rules)} |"
    for entry in entries:
        cells = [_cell(column, entry) for column in shown]
        if anchors:
            cells[0] = f'<a id="{entry.id}"></a>{cells[0]}'
        cells += [escape_markdown(entry.why_not)] if why else []
        yield f"| {' | '.join(cells)} |"


def _cell(column: Column, entry: Entry) -> str:
    text = column.text(entry)
    if not column.right:  # numbers are ours
        text = escape_markdown(text)
    if column.name == "paper" and entry.paper and entry.paper.url:
        return f"[{text}]({entry.paper.url})"
    return text


def _claims(claims: Sequence[Claim]) -> Iterator[str]:
    yield "| claim of | data | attack | clean | attacked | source | note |"
    yield "| --- | --- | --- | ---: | ---: | --- | --- |"
    for claim in claims:
        source = escape_markdown(claim.source)
        cells = [
            escape_markdown(claim.name),
            escape_markdown(claim.dataset),
            escape_markdown(claim.attack),
            as_published(claim.clean),
            as_published(claim.robust),
            f"[{source}]({claim.url})" if claim.url else source,
            escape_markdown(claim.note),
        ]
        yield f"| {' | '.join(cells)} |"
