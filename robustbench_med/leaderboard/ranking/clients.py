"""Figures of each client of a row, and the client that is served worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustbench_med.leaderboard.entry import Count, Figure
from robustbench_med.leaderboard.ranking.answers import Answers
from robustbench_med.leaderboard.ranking.figures import by_images, over
from robustbench_med.records.record import Record

#: Figures of an entry, and the metrics of records that they are; those of the detector are of records alone.
METRICS = {
    "clean": "clean_accuracy",
    "worst": "robust_accuracy",
    "clean_sensitivity": "clean_sensitivity",
    "clean_specificity": "clean_specificity",
    "sensitivity": "robust_sensitivity",
    "specificity": "robust_specificity",
    "hidden_lesion": "hidden_lesion_rate",
    "fake_lesion": "fake_lesion_rate",
    "fpr": "detector_fpr",
    "tpr": "detector_tpr",
    "auroc": "detector_auroc",
}
DETECTOR = ("fpr", "tpr", "auroc")
PerClient = dict[str, dict[str, Figure]]


def per_client(
    records: Sequence[Record],
    answers: Sequence[Answers],
    figures: Mapping[str, Mapping[str, Figure]],
    changed: bool,
) -> tuple[PerClient, dict[str, Count]]:
    """Figures of each client, by their names in an `Entry`, and how many images and patients they are of.

    Args:
        records: of the row.
        answers: under the worst case, for each set of weights; empty where they are not known for all.
        figures: of the answers, by client.
        changed: the worst case is another than that of the records.
    """
    clients = sorted(set.intersection(*(set(record.per_client) for record in records)))
    if not answers or not all(each.sites for each in answers):
        kept = ("clean", *DETECTOR) if changed else tuple(METRICS)
        found = {client: _of_records(records, client, kept) for client in clients}
        return found, {client: _count(records, client) for client in clients if records[0].client_images}
    found, counts = {}, {}
    for client in clients:
        found[client] = {**_of_records(records, client, DETECTOR), **figures.get(client, {})}
        counts[client] = min((_counted(each, client) for each in answers), key=lambda count: count.images)
    return found, counts


def _of_records(records: Sequence[Record], client: str, names: Sequence[str]) -> dict[str, Figure]:
    found = {}
    figures = [record.per_client[client] for record in records]
    between = [record.client_intervals.get(client, {}) for record in records]
    images = by_images(records)
    for name in names:
        metric = METRICS[name]
        figure = over([each.get(metric) for each in figures], [each.get(metric) for each in between], images)
        if figure is not None:
            found[name] = figure
    return found


def _count(records: Sequence[Record], client: str) -> Count:
    images, patients = records[0].client_images.get(client, (0, None))
    return Count(images, patients)


def _counted(answers: Answers, client: str) -> Count:
    rows = answers.at(client)
    owners = {patient for patient, own in zip(answers.patients, rows, strict=False) if own}
    return Count(int(rows.sum()), len(owners) if answers.patients else None)


def worst_client(found: Mapping[str, Mapping[str, Figure]]) -> tuple[str | None, Figure | None]:
    """The client with the lowest accuracy under attack; none where there is one client only."""
    known = {client: figures["worst"] for client, figures in found.items() if "worst" in figures}
    if len(found) < 2 or not known:
        return None, None
    name = min(known, key=lambda client: (known[client].value, client))
    return name, known[name]
