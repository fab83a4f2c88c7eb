"""Measured cells as rows of text: the columns of the README's first table, and with which settings they were measured.

Used wherever records are shown as a table to people: a report, a notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import FEW, percent
from robustbench_med.plugins.references import format_eps, format_params
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted


def attack_of(record: Record) -> str:
    """The attack as on the command line; a ladder by its preset and, where it was named, its attack."""
    attack = record.attack
    return f"ladder:{attack.preset} {attack.named}".rstrip() if attack.is_ladder else formatted(attack)


def title(record: Record) -> str:
    """``defense / attack / access``."""
    return f"{formatted(record.defense)} / {attack_of(record)} / {record.threat.access}"


def threat_of(record: Record) -> str:
    """``linf 4/255``, followed by the goal and the finding where there are any."""
    threat = record.threat
    goal = "" if threat.goal == "untargeted" else threat.goal
    return " ".join(filter(None, [threat.norm, format_eps(threat.eps), goal, threat.finding]))


def with_bounds(value: float | None, bounds: tuple[float, float] | None) -> str:
    """``89.5 [83, 94]``, in percent."""
    return percent(value) + (f" [{100 * bounds[0]:.0f}, {100 * bounds[1]:.0f}]" if bounds else "")


def share(record: Record, name: str) -> str:
    """A metric with its interval, in percent; empty where it is undefined."""
    value = record.metrics.get(name)
    return "" if value is None else with_bounds(value, record.intervals.get(name))


def worst_client(record: Record) -> str:
    """``85.0 [69, 94] hospital-1``; of fewer than 20 images that they are too few."""
    client = record.worst_client
    if client is None:
        return ""
    images, _ = record.client_images.get(client, (FEW, None))
    if images < FEW:
        return f"too few ({plural(images, 'image')})"
    bounds = record.client_intervals.get(client, {}).get("robust_accuracy")
    return f"{with_bounds(record.per_client[client].get('robust_accuracy'), bounds)} {client}"


def settings(record: Record) -> str:
    """What decides how strong the attack was: every parameter that is set, noise draws, limits of calls, the seed."""
    attack = record.attack
    given = {name: value for name, value in (attack.params or attack.params_passed).items() if value is not None}
    params = "" if attack.is_ladder else format_params(given)
    limits = [f"at most {most} {name}" for name, most in record.budget.limits.items()]
    facts = [
        threat_of(record),
        params,
        f"eot {record.eot}",
        plural(record.draws, "draw"),
        *limits,
        f"seed {record.seed}",
    ]
    return "; ".join(filter(None, facts))


def images_of(images: int, patients: int | None) -> str:
    """``64 images of 48 patients``."""
    found = plural(images, "image")
    return f"{found} of {plural(patients, 'patient')}" if patients else f"{found} (patients not recorded)"


def images_and_patients(images: int, patients: int | None, folds: str = "") -> str:
    """``64/48``, of a cross-validation ``500/75 in 5 folds``; a dash for patients that are not recorded."""
    return f"{images}/{'-' if patients is None else patients}" + (f" in {folds}" if folds else "")


def _gate(record: Record) -> str:
    fpr = record.metrics.get("detector_fpr")
    return "" if fpr is None else f"{percent(fpr)} / {percent(record.metrics.get('detector_tpr'))}"


def _auroc(record: Record) -> str:
    value = record.metrics.get("detector_auroc")
    return "" if value is None else f"{value:.3f}"


#: Columns by their heading, in order.
COLUMNS: dict[str, Callable[[Record], str]] = {
    "Data": lambda record: f"{formatted(record.dataset)}{' (synthetic)' if record.dataset.synthetic else ''}",
    "Defense": lambda record: formatted(record.defense),
    "Attack": attack_of,
    "Sees": lambda record: "probe" if record.role == "probe" else record.threat.access,
    "Clean %": lambda record: percent(record.metrics.get("clean_accuracy")),
    "Certified % [95 %]": lambda record: share(record, "certified_accuracy"),
    "Robust % [95 %]": lambda record: share(record, "robust_accuracy"),
    "Worst client": worst_client,
    "AUROC": _auroc,
    "FPR / TPR %": _gate,
    "images/patients": lambda record: images_and_patients(record.n, record.patients),
    "Sens. %": lambda record: share(record, "robust_sensitivity"),
    "Spec. %": lambda record: share(record, "robust_specificity"),
    "Settings": settings,
}
#: Headings of figures, which are aligned right.
FIGURES = COLUMNS.keys() - {"Data", "Defense", "Attack", "Sees", "Worst client", "Settings"}


def table(records: Sequence[Record], without: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the measured records; columns that are empty in all rows, and ``without``, are left out."""
    rows = [record for record in records if record.status == "ok"]
    found = {heading: [text(record) for record in rows] for heading, text in COLUMNS.items()}
    shown = [heading for heading, cells in found.items() if any(cells) and heading not in without]
    return shown, [list(cells) for cells in zip(*(found[heading] for heading in shown), strict=True)]
