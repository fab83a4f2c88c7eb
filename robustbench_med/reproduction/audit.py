"""Do the figures of a record follow from its per-image results and from the data set? Nothing is run.

The metrics compute every figure again from what is known: labels, clients and patients of the data set, and the
answers. Scores of a detector and what a purifier changed are not in per-image results. A figure is judged if it is the
same whatever these were; of the others the interval is judged, which follows from the figure and the number of images.
Systems without a detector or a purifier have no scores, and change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.metric import Metric
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import Rate, wilson
from robustbench_med.interfaces.results import Outcome, Predictions, RungResult
from robustbench_med.leaderboard.sources.compact_labels import ABSTAINED, classes_of, text_of
from robustbench_med.leaderboard.sources.consistency import TOLERANCE
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.test_split import TestSplit
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry
from robustbench_med.records import fairness
from robustbench_med.records.record import Record, flatten
from robustbench_med.reproduction.certificates import certificate_faults
from robustbench_med.reproduction.curves import roc_faults
from robustbench_med.reproduction.flags import flag_faults
from robustbench_med.reproduction.rungs import rung_faults
from robustbench_med.reproduction.shares import share_faults
from robustbench_med.runner.measured import computed
from robustbench_med.statistics.intervals import share_interval, widest

#: Further scorings that a record may have, which per-image results do not hold.
ALSO = ("attacked_8bit", "clean_fixed_noise", "attacked_fixed_noise")
Figures = dict[str, float | None]
Bounds = dict[str, tuple[float, float]]


def metrics_of(registry: Registry) -> list[Metric]:
    """The installed metrics."""
    return [create(registry, "metric", PartRef(entry.qualified)) for entry in registry.entries("metric")]


def faults(
    record: Record, outcome: ImageResults, split: TestSplit, metrics: Sequence[Metric], older: bool = True
) -> Iterator[str]:
    """What does not follow from the per-image results of a measured cell and its data set, a line each.

    ``older``: records of formats before 5, which know no patients, are taken.
    """
    if split.patients and record.patients is None and not older:
        yield "it does not say how many patients the images are of: measure it with today's version"
    yield from _data_set(record, split, older)
    told = list(_images(record, outcome, split))
    yield from told
    if not told:
        yield from _figures(record, outcome, split, metrics)
        yield from share_faults(record)
        yield from roc_faults(record, outcome)
        if record.certified is not None:
            yield from certificate_faults(record, record.certified, outcome)
        yield from flag_faults(record, outcome_with(outcome, split, 0), older)
    yield from rung_faults(record, outcome, random=bool(record.defense.randomized) or len(outcome.attacked) > 1)


def _data_set(record: Record, split: TestSplit, older: bool) -> Iterator[str]:
    """What the record says of its data set."""
    data = record.dataset
    facts = {
        "name": (data.name, split.dataset),
        "synthetic": (data.synthetic, split.synthetic),
        "licence": (data.licence, split.licence),
        "classes": (tuple(data.classes), split.classes),
        "fold": (data.fold and (data.fold.number, data.fold.of, data.fold.pool), split.fold),
    }
    if record.patients is not None or not older:  # older formats do not say it
        facts["lesion_class"] = (data.lesion_class, split.lesion_class)
    for what, (said, true) in facts.items():
        if said != true:
            yield f"{what} of the data set is {said!r}, not {true!r}"


def _images(record: Record, outcome: ImageResults, split: TestSplit) -> Iterator[str]:
    """Rows and labels."""
    labels = torch.from_numpy(classes_of(split.labels, len(split.labels))).long()
    asked = tuple(record.dataset.asked.client) if record.dataset.asked else tuple(record.clients)
    test = Split(torch.zeros(len(labels), 1, 1, 1), labels, split.sites, split.sites)
    rows = rows_to_evaluate(
        test, asked or tuple(set(split.sites)), record.limit, record.threat.goal, split.lesion_class, len(split.classes)
    ).tolist()
    if list(outcome.index) != rows:
        yield f"per-image results are of {plural(len(outcome.index), 'other image')} than the {len(rows)} requested"
        return
    if text_of(outcome.labels) != "".join(split.labels[row] for row in rows):
        yield "labels of images are not those of the data set"
    for what in ("patients", "sites"):
        said, true = getattr(outcome, what), getattr(split, what)
        if said and true and list(said) != [true[row] for row in rows]:
            yield f"{what} of images are not those of the data set"
    for name, values in outcome.lesions.items():
        there = [label == split.lesion_class for label in outcome.labels.tolist()]
        if [not math.isnan(value) for value in values] != there:
            yield f"{name} of the lesions is not that of the images with a lesion"
    random = record.defense.randomized
    # The samples of a smoothed answer are part of it: such a system is asked once.
    wanted = record.draws if random and record.certified is None else 1
    if random is not None and {len(outcome.clean), len(outcome.attacked)} != {wanted}:
        yield (
            f"images were answered {plural(len(outcome.clean), 'time')}, and a system with "
            f"randomized = {random} {plural(wanted, 'time')}"
        )
    sites = sorted({split.sites[row] for row in rows})
    if record.n != len(rows) or list(record.clients) != sites:
        yield (
            f"it is said to be of {plural(record.n, 'image')} of "
            f"{plural(len(record.clients), 'client')}, not {len(rows)} of {len(sites)}"
        )


def _figures(record: Record, outcome: ImageResults, split: TestSplit, metrics: Sequence[Metric]) -> Iterator[str]:
    """Every figure and interval, over all clients and for each."""
    known = bool(split.patients) and record.patients is not None
    whole = [outcome_with(outcome, split, unknown, record) for unknown in (0, 1)]
    patients = len(set(whole[0].patients)) if known else None
    if record.patients != patients:
        yield f"it is said to be of {record.patients} patients, not {patients}"
    yield from _compared("", record.metrics, record.intervals, whole, metrics, known)
    for point in record.certified.curve if record.certified else ():
        if not _plausible(point.accuracy, (point.low, point.high), whole[0], known):
            yield f"the interval of the certified accuracy at {point.radius:.6g} does not follow from it and the images"
            break
    if set(record.per_client) != set(record.clients):
        yield "figures of clients are of other clients"
        return
    for client in record.clients:
        own, bounds = [each.at(client) for each in whole], record.client_intervals.get(client)
        yield from _compared(f"{client}: ", record.per_client[client], bounds, own, metrics, known)
        images = (len(own[0].labels), len(set(own[0].patients)) if known else None)
        if record.client_images and tuple(record.client_images.get(client, ())) != images:
            yield f"{client} is said to have {record.client_images.get(client)} images and patients, not {images}"
    if record.worst_client != fairness.worst_client(record.per_client):
        yield f"{record.worst_client!r} is not the worst client"
    between = fairness.between(record.per_client)
    said = {name: section.model_dump() for name, section in record.between_clients.items()}
    if said.keys() != between.keys() or any(not _alike(said[name], between[name]) for name in between):
        yield "figures between clients do not follow from those of the clients"


def _compared(
    what: str,
    figures: Figures,
    bounds: Bounds | None,
    outcomes: Sequence[Outcome],
    metrics: Sequence[Metric],
    known: bool,
) -> Iterator[str]:
    """Figures and intervals of the same images; ``bounds``: None where they are not kept."""
    made = [computed(outcome, metrics) for outcome in outcomes]
    sure = {name: figure for name, figure in made[0].items() if name in made[1] and made[1][name] == figure}
    values, intervals = flatten(sure, known)
    for name, value in figures.items():
        if name not in made[0] and name not in made[1]:
            yield f"{what}{name} is a figure of no installed metric; install the plugin that has it"
        elif name in values and not _close(value, values[name]):
            yield f"{what}{name} is {_shown(value)}, and the images give {_shown(values[name])}"
    for name in sorted(set(values) - set(figures)):
        if known:  # records of older formats lack figures that came later
            yield f"{what}{name} is missing"
    for name, found in (bounds or {}).items():
        wanted = intervals.get(name)
        figure = figures.get(name)
        if wanted is None and (name in values or not _plausible(figure, found, outcomes[0], known)):
            yield f"{what}the interval of {name} does not follow from the figure and the images"
        elif wanted is not None and not all(map(_close, found, wanted)):
            yield f"{what}{name} has the interval {_pair(found)}, and the images give {_pair(wanted)}"
    if bounds is not None and (missing := sorted(set(intervals) & set(figures) - set(bounds))):
        yield f"{what}{missing[0]} has no interval"


def _plausible(figure: float | None, found: tuple[float, float], outcome: Outcome, known: bool) -> bool:
    """Whether this is the interval of a share of all images whose hits are not known image by image."""
    if figure is None or not 0 <= figure <= 1:
        return False
    n = len(outcome.labels)
    inner = wilson(Rate(figure * n, n))
    draws = len(outcome.attacked.predictions)
    if abs(figure * n * draws - round(figure * n * draws)) > TOLERANCE * n * draws:
        return False  # no count of answers
    if known and figure in (0, 1):  # then the hits are known
        return all(map(_close, found, share_interval([figure] * n, outcome.patients).bounds))
    if not known:
        return all(map(_close, found, inner))
    counts = [outcome.patients.count(patient) for patient in set(outcome.patients)]
    outer = widest(figure, counts)
    return outer[0] - TOLERANCE <= found[0] <= inner[0] + TOLERANCE and (
        inner[1] - TOLERANCE <= found[1] <= outer[1] + TOLERANCE
    )


def outcome_with(told: ImageResults, split: TestSplit, unknown: int, record: Record | None = None) -> Outcome:
    """The outcome with these answers; what is not known is as small as it can be, or as large (``unknown`` = 1).

    ``record`` says which parts flag and change images, and if there are certificates, whose radii are not published.
    """
    rows, n = list(told.index), len(told.index)
    certified = record is not None and record.certified is not None
    parts = None if record is None else record.defense.parts
    gated = parts is None or parts.detector is not None
    purified = parts is None or parts.purifier is not None
    labels = torch.tensor([int(each) for each in told.labels], dtype=torch.int64)

    def predictions(codes: Any) -> Predictions:
        answers = torch.from_numpy(codes.astype("int64"))
        rejected = answers == ABSTAINED
        scores = torch.full(answers.shape, math.nan)
        flagged = torch.ones_like(rejected) if purified and (unknown or not gated) else rejected
        if unknown and gated:
            scores = torch.arange(answers.numel(), dtype=torch.float32).view(answers.shape)
        return Predictions(
            predictions=torch.where(rejected, unknown, answers),
            flagged=flagged,
            rejected=rejected,
            scores=scores,
            changed=torch.full_like(rejected, bool(unknown) and purified),
            purified_rmse=torch.full(answers.shape, float(unknown)),
        )

    codes = tuple(split.patients[row] for row in rows) if split.patients else ()
    empty = RungResult.empty("", "", n)
    radii = {"radius": torch.full((n,), float(unknown)), "held": torch.full((n,), bool(unknown))} if certified else {}
    counted: dict[str, Any] = {name: torch.full((n,), unknown) for name in RungResult.PASSES}
    return Outcome(
        labels=labels,
        sites=tuple(split.sites[row] for row in rows),
        patients=codes or tuple(map(str, rows)),
        clean=predictions(told.clean),
        attacked=predictions(told.attacked),
        distances=torch.full((n,), float(unknown)),
        num_classes=len(split.classes),
        lesion_class=split.lesion_class,
        index=torch.tensor(rows),
        rungs=(replace(empty, **counted),),
        # None of these right, or all.
        also={name: predictions((labels[None] if unknown else labels[None] * 0 - 3).numpy()) for name in ALSO},
        codes=codes,
        certified=radii,
    )


def _alike(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(
        one[key] == two[key] if isinstance(two[key], str) else _close(one[key], two[key]) for key in two
    )


def _close(one: float | None, two: float | None) -> bool:
    return one is two if one is None or two is None else abs(one - two) <= TOLERANCE


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"


def _pair(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:.4f}, {bounds[1]:.4f}]"
