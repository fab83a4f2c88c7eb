"""What the page of a row says, worked out from its `Entry`; the templates only lay it out."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from markupsafe import Markup

from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.entry import Entry, Figure, RungFigure
from robustbench_med.leaderboard.ranking.figures import figure as records_figure
from robustbench_med.leaderboard.ranking.identity import train_seed
from robustbench_med.leaderboard.ranking.lesions import by_lesion
from robustbench_med.leaderboard.ranking.pool import cells
from robustbench_med.leaderboard.render.page import charts
from robustbench_med.leaderboard.render.page.budget import spent
from robustbench_med.leaderboard.render.page.certificates import Certificates, certificates
from robustbench_med.leaderboard.render.page.columns import TableCell
from robustbench_med.leaderboard.render.page.confusion import Confusion, confusion
from robustbench_med.leaderboard.render.page.figures import DASH, count, interval, percent, plain, share
from robustbench_med.leaderboard.render.page.lesions import LesionCurve, lesion_curve
from robustbench_med.leaderboard.render.page.provenance import provenance
from robustbench_med.leaderboard.render.page.rerun import commands, snippet
from robustbench_med.leaderboard.render.page.row_names import Called, People
from robustbench_med.leaderboard.render.page.saturation import saturation

if TYPE_CHECKING:
    from robustbench_med.leaderboard.render.page.gallery import Gallery
    from robustbench_med.leaderboard.sources.image_results import ImageResults
    from robustbench_med.records.record import Record


#: Shares of clean images flagged at which the table beside a ROC curve has a row.
AT_MOST = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Eps:
    """The same system at several eps: a chart and its rows."""

    chart: Markup
    rows: Sequence[tuple[Board, Entry]]


@dataclass(frozen=True)
class Page:
    """One row with what its page shows.

    Attributes:
        board, section, entry: the row and where it stands; no section for one without a rank.
        others: rows of the same system on all boards, with their boards; for the curve over eps.
        gallery: its images, if there are any.
        people: names for people.
    """

    board: Board
    section: Section | None
    entry: Entry
    others: Sequence[tuple[Board, Entry]] = ()
    gallery: Gallery | None = None
    people: People = field(default_factory=People)

    @cached_property
    def headline(self) -> list[tuple[str, TableCell, str]]:
        """The figures that a reader looks for first."""
        entry = self.entry
        every = ""
        if entry.claim_all is not None and entry.claim_images:
            bounds = interval(entry.claim_all)
            every = (
                f"{percent(entry.claim_all.value)} {f'({bounds}) ' if bounds else ''}on "
                f"{plural(entry.claim_images, 'image')}"
            )
        asked = "; ".join(filter(None, [entry.claim_attack, every]))
        seeds = f"mean of {len(entry.train_seeds)} trainings" if len(entry.train_seeds) > 1 else ""
        return [
            ("Clean", _cell(entry.clean), ""),
            ("Claim", _cell(entry.claim), asked),
            ("Worst case", _cell(entry.worst), seeds),
            *([("Answered right", _cell(entry.answered), "withheld answers left out")] if entry.answered else []),
            ("Drop", TableCell(percent(entry.drop)), "points, on the same images" if entry.drop is not None else ""),
        ]

    @cached_property
    def is_ladder(self) -> bool:
        """Whether each record is a ladder or the only attack; else they are attackers measured one by one."""
        return len({record.threat.access for record in self.entry.records}) <= 1

    @cached_property
    def ladder(self) -> list[tuple[RungFigure, float | None, Figure | None]]:
        """Each attack, with the accuracy before and after it."""
        found, before = [], self.entry.clean.value if self.entry.clean and self.is_ladder else None
        for rung in self.entry.rungs:
            after = rung.withstanding
            found.append((rung, before, None if after is None else Figure(after)))
            before = after if self.is_ladder and after is not None else before
        return found

    @cached_property
    def eps(self) -> Eps | None:
        """Accuracy over eps; None where only one eps was measured."""
        rows = sorted(
            {board.eps: (board, other) for board, other in self.others if self._beside(board, other)}.values(),
            key=lambda row: row[0].eps,
        )
        if len(rows) < 2:
            return None
        most = rows[-1][0].eps
        drawn = []
        for name, style, label in (("claim", "line-b", "claim"), ("worst", "line-a", "worst case")):
            clean = self.entry.clean
            points = [] if clean is None else [charts.point(0.0, "0: clean", clean, whisker=False)]
            points += [
                charts.point(board.eps / most, f"{board.eps_text}: {label}", figure, whisker=name == "worst")
                for board, other in rows
                if (figure := getattr(other, name)) is not None
            ]
            drawn.append(charts.Line(label, style, points))
        ticks = [(0.0, "0"), *((board.eps / most, board.eps_text) for board, _ in rows)]
        title = "Accuracy over eps: worst case (filled line) and claim (dashed); figures in the table"
        return Eps(charts.lines(drawn, ticks, f"eps ({self.board.norm})", "accuracy %", title), rows)

    def _beside(self, board: Board, other: Entry) -> bool:
        """Whether a row belongs in one curve with this one."""
        same = ("dataset", "digest", "options", "partition", "norm", "goal")
        alike = all(getattr(board, name) == getattr(self.board, name) for name in same)
        mine = self.entry
        return alike and (other.ladder, other.images, other.clients) == (mine.ladder, mine.images, mine.clients)

    @cached_property
    def certificates(self) -> Certificates | None:
        """Certified accuracy; None where nothing was certified."""
        return certificates(self.board, self.others, [] if self.entry.folds else self._kept)

    @cached_property
    def lesions(self) -> list[tuple[str, Figure | None, Figure | None]]:
        """Sensitivity and its like, on clean images and under attack."""
        entry = self.entry
        rows = [
            ("Sensitivity", entry.clean_sensitivity, entry.sensitivity),
            ("Specificity", entry.clean_specificity, entry.specificity),
            ("Hidden lesions (lesion predicted as none)", None, entry.hidden_lesion),
            ("Fake lesions (none predicted as lesion)", None, entry.fake_lesion),
        ]
        return [row for row in rows if row[1] or row[2]]

    @cached_property
    def by_lesion(self) -> list[LesionCurve]:
        """Accuracy by each measurement of the lesions that the data set has; empty where none is kept."""
        if not self.is_ladder:
            return []
        found = ((name, by_lesion(self.entry.answers or self.entry.outcomes, name)) for name in LESIONS)
        return [lesion_curve(name, ranges) for name, ranges in found if ranges]

    @cached_property
    def confusion(self) -> list[Confusion]:
        """Answers by truth, clean and under the worst attack; empty where per-image answers are not kept for all."""
        kept = self.entry.answers
        if not kept:
            return []
        names = self.entry.records[0].dataset.classes
        return [
            confusion("Clean", [(each.labels, each.clean) for each in kept], names),
            confusion("Under attack", [(each.labels, each.attacked) for each in kept], names),
        ]

    @cached_property
    def detector(self) -> list[tuple[str, str, str]]:
        """Figures of the detector: name, value, interval; empty without one."""
        entry = self.entry
        if entry.auroc is None and entry.fpr is None:
            return []
        rows = [("AUROC, attacked against clean", plain(entry.auroc.value if entry.auroc else None), "")]
        shares = [
            ("Clean images flagged (FPR)", entry.fpr),
            ("Attacked images flagged (TPR)", entry.tpr),
            ("TPR at 1 % FPR", records_figure(entry.records, "detector_tpr_at_1")),
            ("TPR at 5 % FPR", records_figure(entry.records, "detector_tpr_at_5")),
            ("Neither flagged nor correct", records_figure(entry.records, "undetected_and_wrong")),
        ]
        bounds = [(name, f"{percent(figure.value)} %", interval(figure)) for name, figure in shares if figure]
        return rows + bounds

    @property
    def _curves(self) -> list[tuple[str, ImageResults]]:
        """Outcomes with a ROC curve, and their seeds: of training, or of attack where there is one training."""
        entry = self.entry
        found = []
        for record, outcome in zip(entry.records, entry.outcomes, strict=False):
            if outcome is not None and outcome.roc:
                one = record.seed if len(entry.train_seeds) == 1 else train_seed(record)
                name = f"seed {one}"
                found.append((name if self.is_ladder else f"{record.threat.access}, {name}", outcome))
        return found

    @cached_property
    def roc_points(self) -> list[tuple[float, list[float]]]:
        """With at most this share of clean images flagged, the share of attacked ones, for each seed."""
        found = []
        for _, outcome in self._curves:
            sides, heights = zip(*sorted(outcome.roc), strict=True)
            highest = [0.0, *accumulate(heights, max)]
            found.append([highest[bisect_right(sides, most)] for most in AT_MOST])
        return [(most, [each[at] for each in found]) for at, most in enumerate(AT_MOST)]

    @property
    def roc_names(self) -> list[str]:
        """The seeds that have a ROC curve."""
        return [name for name, _ in self._curves]

    @cached_property
    def roc(self) -> Markup | None:
        """The detector's ROC curves, one a seed, and the threshold that is deployed."""
        entry = self.entry
        kept = self._curves
        if not kept:
            return None
        chance = charts.Line("", "line-chance", path=[(0.0, 0.0), (1.0, 1.0)])
        drawn = [chance]
        for at, (_, outcome) in enumerate(kept):
            corners = charts.corners([(0.0, 0.0), *outcome.roc, (1.0, 1.0)])
            drawn.append(charts.Line("", f"line-{'a' if at == 0 else 'd'} thin", path=corners))
        if entry.fpr and entry.tpr:
            told = f"deployed: FPR {percent(entry.fpr.value)} %, TPR {percent(entry.tpr.value)} %"
            drawn.append(charts.Line("", "line-c", [charts.Point(entry.fpr.value, entry.tpr.value, told)]))
        ticks = [(share, f"{100 * share:.0f}") for share in (0, 0.25, 0.5, 0.75, 1)]
        title = "ROC curve of the detector, with the deployed threshold as a point; figures in the table"
        return charts.lines(drawn, ticks, "clean images flagged %", "attacked images flagged %", title)

    @property
    def _kept(self) -> list[Record]:
        """Every record behind the row, once."""
        return list({each.cell_id: each for each in (*self.entry.records, *self.entry.claim_records)}.values())

    @cached_property
    def called(self) -> Called:
        """Its name for people."""
        return self.people.of(self.entry)

    @cached_property
    def saturation(self) -> Markup | None:
        """Robust accuracy against gradients; None for attackers that were measured one by one."""
        return saturation(self.entry.records) if self.is_ladder else None

    @property
    def budget(self) -> str:
        """What attackers might spend on a system that draws noise, and what follows; "" for others."""
        return spent(self.entry)

    @cached_property
    def _commands(self) -> tuple[list[str], list[str]]:
        return commands(self._kept)

    @property
    def commands(self) -> list[str]:
        """Commands that measure the row again: one for the records that differ in the seed only."""
        return self._commands[0]

    @property
    def no_command(self) -> list[str]:
        """Why there is no command for a record."""
        return self._commands[1]

    @cached_property
    def snippet(self) -> str:
        """Python that loads the defense; "" where its record does not hold the options."""
        return snippet(cells(self.entry.records)[0])

    @cached_property
    def cost(self) -> list[tuple[str, str]]:
        """What the row cost to measure, and what it costs to deploy."""
        entry = self.entry
        memory = max((record.peak_memory_mib or 0.0 for record in entry.records), default=0.0)
        return [
            ("Gradient calls per image", count(entry.gradients)),
            ("Queries per image", count(entry.queries)),
            ("Milliseconds per image, attacks included", count(entry.ms)),
            ("Wall time of all seeds", f"{math.fsum(record.seconds for record in entry.records):.0f} s"),
            ("Peak memory", f"{memory:.0f} MiB" if memory else DASH),
            ("Parameters deployed", count(entry.parameters)),
        ]

    @cached_property
    def provenance(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Where the records come from: each fact once for all cells, or for each kind of cell that differs."""
        return provenance(cells(self._kept))


def _cell(figure: Figure | None) -> TableCell:
    return TableCell(share(figure), interval(figure))
