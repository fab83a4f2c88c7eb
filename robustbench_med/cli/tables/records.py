"""Records in a terminal: one table, then what it means in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from robustbench_med.attacks.flags import FLAGS
from robustbench_med.cli import console
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import FEW, percent
from robustbench_med.plugins.references import without_shared_params
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted
from robustbench_med.records.summary import attack_of, images_and_patients, images_of, threat_of, with_bounds


def show(records: Sequence[Record]) -> Table | console.Lines:
    """The measured records as a table that fits 80 columns; figures in percent, ``worst`` is the worst client's.

    ``n`` is the number of images/patients.

    Where strategies or training seeds are compared, they have columns, and an attack that is the same in all rows is
    named in the title.
    """
    measured = [record for record in records if record.status == "ok"]
    varies = contrast(measured)
    names, shared = without_shared_params([formatted(record.defense) for record in measured])
    cells = [
        {"defense": _marked(name, record), **facts, **_cells(record)}
        for name, record, facts in zip(names, measured, varies, strict=True)
    ]
    title = "   ".join(filter(None, [_title(records), shared and f"all {shared}"]))
    if any(varies):
        common = [name for name in ("attack", "sees") if len({row[name] for row in cells}) == 1]
        title = "   ".join([title, *(cells[0][name] for name in common)])
        gone = {*common, *(["FPR/TPR"] if not any(row["FPR/TPR"] for row in cells) else [])}
        cells = [{name: cell for name, cell in row.items() if name not in gone} for row in cells]
    columns = list(cells[0]) if cells else ["defense", *_FIGURES]
    rows = [list(row.values()) for row in cells]
    kept = (*_KEPT, *console.telling_apart(columns, rows, _FIGURES))
    return console.filled(title, columns, rows, _FIGURES, keep=kept, first_to_go=_FIRST_TO_GO)


def contrast(records: Sequence[Record]) -> list[dict[str, str]]:
    """For each record, in what it differs from others of the same defense: data, training, threat, client, seed.

    Each dict has the same keys: only those facts that differ within some defense.
    """
    strategies = [record.defense.strategy for record in records]
    names = [strategy.name if strategy else "" for strategy in strategies]
    full = [formatted(strategy) if strategy else "" for strategy in strategies]
    alone = {record.clients[0] for record in records if len(record.clients) == 1}
    forms = Counter(name for name, _ in set(zip(names, full, strict=True)))  # how differently it was parametrised
    facts = [
        {
            "data": _dataset(record),
            "fold": _fold(record),
            "model": record.defense.asked.get("model", ""),
            "strategy": text if forms[name] > 1 else name,
            "trained": "" if (seed := record.defense.weights.seed) is None else f"seed {seed}",
            "threat": threat_of(record),
            "client": client_of(record) if len(alone) > 1 else "",
            "seed": str(record.seed),
        }
        for record, name, text in zip(records, names, full, strict=True)
    ]
    labels = [formatted(record.defense) for record in records]
    told = [
        fact
        for fact in ("data", "fold", "model", "strategy", "trained", "threat", "client", "seed")
        if len({(label, row[fact]) for label, row in zip(labels, facts, strict=True)}) > len(set(labels))
    ]
    return [{fact: row[fact] for fact in told} for row in facts]


def unseen(records: Sequence[Record]) -> Iterator[str]:
    """A line on sites that took no part in training."""
    names = dict.fromkeys(site for record in records for site in record.unseen)
    if names:
        yield f"unseen: {', '.join(names)} had no part in training; answered by the state that all clients share"


def unmeasured(records: Sequence[Record]) -> Iterator[str]:
    """A line for each cell that was skipped, and why."""
    for record in records:
        if record.status == "skipped":
            yield f"skipped: {name_of(record)}: {record.reason}"


def nothing_measured(records: Sequence[Record]) -> Iterator[str]:
    """That every cell was skipped, and last of all why."""
    skipped = [record for record in records if record.status == "skipped"]
    if not skipped or len(skipped) < len(records):
        return
    every = "the only cell was" if len(skipped) == 1 else f"all {len(skipped)} cells were"
    yield f"nothing was measured: {every} skipped"
    reasons = Counter(record.reason for record in skipped)
    for reason, count in reasons.items():
        named = next(name_of(record) for record in skipped if record.reason == reason)
        yield f"skipped: {named if count == 1 else f'{count} cells'}: {reason}"


def name_of(record: Record, folds: Sequence[str] | None = None) -> str:
    """``defense / attack / access``; ``folds`` are those to name in place of the record's own."""
    asked = [f"{name} {text}" for name, text in record.defense.asked.items()]
    folds = [_fold(record)] if folds is None else folds
    asked += [f"{'fold' if len(folds) == 1 else 'folds'} {', '.join(folds)}"] if record.dataset.fold else []
    how = f" ({', '.join(asked)})" if asked else ""
    return f"{formatted(record.defense)}{how} / {attack_of(record)} / {record.threat.access}"


def _title(records: Sequence[Record]) -> str:
    sets = sorted({_dataset(record) for record in records})
    threats = sorted({threat_of(record) for record in records})
    return f"{', '.join(sets)}   {', '.join(threats)}"


def _dataset(record: Record) -> str:
    data = record.dataset
    return " ".join(filter(None, [data.name, "(synthetic)" if data.synthetic else "", data.partition]))


def _fold(record: Record) -> str:
    """The number of the fold, of a cross-validation."""
    return str(record.dataset.fold.number) if record.dataset.fold else ""


def client_of(record: Record) -> str:
    """The client, of a cell that looked at one."""
    return record.clients[0] if len(record.clients) == 1 else "all"


_FIGURES = ("clean", "robust [95%]", "worst", "FPR/TPR", "n")
#: What a narrow terminal still shows, and what it leaves out first.
_KEPT = ("robust [95%]",)
_FIRST_TO_GO = ("n", "FPR/TPR", "worst", "clean", "sees")


def _marked(name: str, record: Record) -> str:
    """The defense's name, marked where it answered for sites that it was not trained on."""
    if not record.unseen:
        return name
    known = len(set(record.clients) - set(record.unseen))
    return f"{name} ({len(record.unseen)} of {known + len(record.unseen)} unseen)" if known else f"{name} (unseen)"


def _cells(record: Record) -> dict[str, str]:
    figures = record.metrics
    robust = percent(figures.get("robust_accuracy"))
    if interval := record.intervals.get("robust_accuracy"):
        robust = f"{robust} [{100 * interval[0]:.0f},{100 * interval[1]:.0f}]"
    gate = ""
    if figures.get("detector_fpr") is not None:
        gate = f"{percent(figures['detector_fpr'])}/{percent(figures.get('detector_tpr'))}"
    return {
        "attack": attack_of(record),
        "sees": "probe" if record.role == "probe" else record.threat.access,
        "clean": percent(figures.get("clean_accuracy")),
        "robust [95%]": robust,
        "worst": _worst(record),
        "FPR/TPR": gate,
        "n": images_and_patients(record.n, record.patients),
    }


def _worst(record: Record) -> str:
    """The worst client's accuracy; "too few" where that is of too few images to say anything."""
    if record.worst_client is None:
        return ""
    images, _ = record.client_images.get(record.worst_client, (FEW, None))
    return "too few" if images < FEW else percent(record.per_client[record.worst_client].get("robust_accuracy"))


#: Rows up to which the worst client of each has a line of its own.
LINES = 12


def clients_and_patients(records: Sequence[Record]) -> Iterator[str]:
    """A line on the worst client of each record, with its interval and number of images; one on missing patients."""
    rows = [record for record in records if record.status == "ok"]
    for record in rows if len(rows) <= LINES else ():
        worst = record.worst_client
        if worst is not None and worst in record.client_images:
            images, patients = record.client_images[worst]
            bounds = record.client_intervals.get(worst, {}).get("robust_accuracy")
            value = with_bounds(record.per_client[worst].get("robust_accuracy"), bounds)
            few = f"; fewer than {FEW} are too few to say anything" if images < FEW else ""
            yield f"worst client of {name_of(record)}: {worst}, {value}, {images_of(images, patients)}{few}"
    if missing := sum(record.patients is None for record in rows):
        whose = "" if missing == len(rows) else f" of {missing} of {len(rows)} rows"
        yield f"patients{whose} are not recorded: intervals are by images, as if these were independent, and too narrow"


#: What stands before a fact of `contrast` in a line.
_BEFORE = {"fold": "fold ", "trained": "train-", "seed": "seed "}


def ladder(record: Record, facts: Mapping[str, str] | None = None) -> Table | None:
    """The results of a ladder, rung by rung; None for other records.

    ``facts`` are those of `contrast`, by which it differs from others that are shown.
    """
    if not record.attack.is_ladder or record.status != "ok":
        return None
    right = ("images", "left %", "grad", "query", "s")
    told = ", ".join(f"{_BEFORE.get(name, '')}{text}" for name, text in (facts or {}).items() if text)
    title = f"{formatted(record.defense)} on the ladder{f' ({told})' if told else ''}"
    gone = ("", "query", "grad", "s", "images")
    table = console.table("rung", "attack", *right, "", title=title, right=right, keep=("attack",), first_to_go=gone)
    table.padding = (0, 1, 0, 0)
    for rung in record.rungs:
        access, _, attack = rung.rung.partition(" ")
        if rung.reason:
            console.row(table, access, attack, "", "", "", "", "", "not run")
            continue
        figures = [f"{value:.0f}" for value in (rung.gradients_mean, rung.queries_mean, rung.seconds)]
        bar = "█" * round(10 * (rung.withstanding or 0.0))
        console.row(table, access, attack, str(rung.attacked), percent(rung.withstanding), *figures, bar)
    return table


def in_short(records: Sequence[Record]) -> Iterator[str]:
    """Of many records: how many were not measured, or lack a rung, or have a flag, and why."""
    rungs = Counter((rung.access, rung.reason) for record in records for rung in record.rungs if rung.reason)
    yield from (
        f"{plural(count, 'cell has', 'cells have')} no rung {access}: {reason}"
        for (access, reason), count in rungs.most_common()
    )
    skipped = Counter(record.reason for record in records if record.status == "skipped")
    yield from (
        f"{plural(count, 'cell was', 'cells were')} skipped: {reason}" for reason, count in skipped.most_common()
    )
    flags = Counter(flag for record in records for flag in record.diagnostics.flags)
    yield from (
        f"{plural(count, 'cell is', 'cells are')} marked {flag}: {_meaning(flag)}"
        for flag, count in flags.most_common()
    )


def _meaning(flag: str) -> str:
    return FLAGS.get(flag, "a flag that this version does not know")


def left_out(record: Record) -> Iterator[str]:
    """A line for each kind of rung that was left out, and why."""
    if record.attack.is_ladder and record.status == "ok":
        for access, reason in dict.fromkeys((rung.access, rung.reason) for rung in record.rungs):
            if reason:
                yield f"{formatted(record.defense)}: no rung {access}: {reason}"


def warnings(records: Sequence[Record]) -> Iterator[str]:
    """One line for each raised flag of the diagnostics, with what to try, and for each note on them.

    What is said of several records, of all folds for example, is said once, with all their names before it.
    """
    who: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        for said in (*(f"{flag}: {_meaning(flag)}" for flag in record.diagnostics.flags), *record.diagnostics.notes):
            who.setdefault(said, {}).setdefault(name_of(record, [""]), []).append(record)
    for said, systems in who.items():
        names = (name_of(own[0], list(dict.fromkeys(map(_fold, own)))) for own in systems.values())
        yield f"{'; '.join(names)}: {said}"
