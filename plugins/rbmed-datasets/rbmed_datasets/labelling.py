"""Labels as tables write them: one class, several findings in columns or in one text, or a grade."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from rbmed_datasets.files import natural_key
from rbmed_datasets.names import MISSING, printable, rejoined, split_at_plus
from rbmed_datasets.scans import Task
from robustbench_med.errors import DataError

#: What a table may say where an image has none of its findings; upper and lower case make no difference.
NOTHING = ("no finding", "no findings", "normal", "none", "healthy")
#: Between the findings of an image, in names of sets of them.
JOIN = "|"
#: Other marks between the labels of a list.
_MARKS = (";", ",", "|")
_YES, _NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


def findings_of(label: str) -> tuple[str, ...]:
    """The findings in a label that `joined` made."""
    return tuple(filter(None, label.split(JOIN)))


def joined(findings: Iterable[str]) -> str:
    """A set of findings as a label, equal for equal sets; "" for none."""
    return JOIN.join(sorted(set(findings), key=natural_key))


def columns_of(label: str, known: Collection[str]) -> tuple[str, ...]:
    """The columns that a text joins by plus signs, or the one that it names."""
    return (label,) if label in known else rejoined(split_at_plus(label), known)


def in_columns(row: Mapping[str, str], columns: Sequence[str], where: str) -> str | None:
    """The findings whose columns say 1, as a label; None where all are empty.

    Raises:
        DataError: a column says neither 0 nor 1.
    """
    if not any(row[name] for name in columns):
        return None
    held = []
    for name in columns:
        if row[name].lower() not in (*_YES, *_NO):
            said = f"{printable(row[name])!r} in" if row[name] else "nothing in"
            raise DataError(
                f"{where} says {said} column {printable(name)!r}, where 0 or 1 tells whether the finding is there; "
                "decide on such images, or leave the column out of label="
            )
        held += [printable(name)] if row[name].lower() in _YES else []
    return joined(held)


def in_text(text: str, separator: str, where: str) -> str | None:
    """The findings that one value lists, as a label; None where it is empty.

    Raises:
        DataError: it lists a missing value, or findings and that there are none.
    """
    if not text:
        return None
    parts = [part for each in re.split(f"[{re.escape(separator)}]", printable(text)) if (part := each.strip())]
    for part in parts:
        _refuse_missing(part, where)
    nothing = [part for part in parts if part.casefold() in NOTHING]
    if nothing and len(nothing) < len(parts):
        raise DataError(f"{where} says {printable(text)!r}: findings, and that there are none ({nothing[0]!r})")
    return joined(part for part in parts if part not in nothing)


def _refuse_missing(label: str, where: str) -> None:
    if label.casefold() in MISSING:
        raise DataError(
            f"{where} has the label {label!r}, as tools write a missing value; leave it empty, so that the row is "
            "left out, or give the class another name"
        )


def one_of(row: Mapping[str, str], columns: Sequence[str], where: str) -> str:
    """The one column that says 1.

    Raises:
        DataError: there is none, or more than one, or a column says neither 0 nor 1.
    """
    for name in columns:
        if row[name].lower() not in (*_YES, *_NO):
            said = f"{printable(row[name])!r} in" if row[name] else "nothing in"
            raise DataError(
                f"{where} says {said} column {printable(name)!r}, where 0 or 1 tells whether an image is of the class; "
                "decide on such images, or leave the column out of label="
            )
    ones = [one for one in columns if row[one].lower() in _YES]
    if len(ones) != 1:
        raise DataError(
            f"{where}: a row has {len(ones)} of the labels {'+'.join(columns)}, not one ({dict(row)}); if images may "
            "have several findings, or none: task=multi-label"
        )
    return ones[0]


def label_of(
    row: Mapping[str, str], name: str, task: Task, separator: str, lesion: Sequence[str], where: str
) -> str | None:
    """What a row says: a class, or findings as a label; None where it says nothing.

    Args:
        row: values by column.
        name: the column, or columns of 0 and 1 joined by '+'.
        task: what labels say.
        separator: characters between findings in one column.
        lesion: classes that are merged, which may stand beside others in one value.
        where: the row, in messages.

    Raises:
        DataError: it says several things where one is wanted.
    """
    if task == "multi-label":
        single = name in row and row[name].lower() not in (*_YES[:3], *_NO[:3])
        return in_text(row[name], separator, where) if single else in_columns(row, columns_of(name, row), where)
    if name not in row:
        return one_of(row, columns_of(name, row), where)
    if not row[name]:
        return None
    _refuse_missing(row[name], where)
    parts = printable(row[name]).split("|")
    if len(parts) == 1:
        return parts[0]
    if lesion:
        named = f"+{'+'.join(lesion)}+"
        return next((part for part in parts if f"+{part}+" in named), parts[0])
    raise DataError(
        f"{where} gives several labels to an image ({'|'.join(parts)}); merge them with lesion=NAME+NAME, or keep all "
        "with task=multi-label"
    )


def refuse_lists(labels: Iterable[str], task: Task, where: str) -> None:
    """Raise `DataError` where a label lists others, joined by what separates none here: ``Mass;Edema`` beside ``Mass``.

    Of classes all parts have to be labels, of findings one of them.
    """
    several = task == "multi-label"
    names = {name for label in labels for name in (findings_of(label) if several else (label,))}
    for name in sorted(names):
        for mark in _MARKS:
            parts = [part.strip() for part in name.split(mark)]
            if len(parts) > 1 and (any if several else all)(part in names for part in parts):
                mark = f"[{mark}]" if mark == "," else mark
                remedy = f"separator={mark}" if several else "merge them with lesion=NAME+NAME, or keep all with "
                remedy += "" if several else f"task=multi-label and separator={mark}"
                raise DataError(
                    f"{where} holds {name!r}, which lists several labels ({', '.join(parts)}): {remedy}, or if it is "
                    "one, name the classes to use, classes=NAME+NAME"
                )


def refuse_ids(labels: Sequence[str], task: Task, where: str) -> None:
    """Raise `DataError` where labels are ids or measurements: most classes, or all findings, are those of one image.

    Numbers of which some are not whole are measurements, too, unless they are grades of an ordinal task.
    """
    if task == "multi-class" and (broken := _broken_numbers(set(labels))):
        raise DataError(
            f"{where} holds numbers that are not whole ({', '.join(broken[:3])}, ...), {len(set(labels))} different "
            "ones, as a measurement does; name the column of the label, label=COLUMN, or if they are classes, the "
            "classes to use, classes=NAME+NAME; grades of a scale are task=ordinal"
        )
    several = task == "multi-label"
    counts = Counter(name for label in labels for name in (findings_of(label) if several else (label,)))
    single = [name for name, count in counts.items() if count == 1]
    if len(counts) > 2 and (len(single) == len(counts) if several else 2 * len(single) > len(counts)):
        raise DataError(
            f"{where} says {len(counts)} different things of {len(labels)} images, {len(single)} of them of one image "
            f"only ({', '.join(map(repr, single[:3]))}, ...), as an id or a measurement does; name the column of the "
            "label, label=COLUMN, or the classes to use, classes=NAME+NAME"
        )


def _broken_numbers(names: Iterable[str]) -> list[str]:
    """Those that are not whole, where all names are numbers; none where one of them is no number."""
    try:
        values = {name: float(name.replace(",", ".")) for name in names}
    except ValueError:
        return []
    return sorted((name for name, value in values.items() if not value.is_integer()), key=lambda name: values[name])


def in_order(names: Iterable[str]) -> list[str]:
    """Names of classes in the order of their labels: numbers by value, others naturally (``y2`` before ``y10``)."""
    found = list(names)
    try:
        values = {name: float(name.replace(",", ".")) for name in found}
    except ValueError:
        values = {}
    return sorted(found, key=lambda name: (values.get(name, 0.0), natural_key(name)))


def in_grade_order(task: Task, names: Sequence[str], asked: Sequence[str]) -> None:
    """Raise `DataError` for an ordinal task whose order is not known: grades that are no numbers, in no given order."""
    if task == "ordinal" and not asked and not all(re.fullmatch(r"[-+]?\d+([.,]\d+)?", name) for name in names):
        raise DataError(
            f"task=ordinal needs the order of the grades: classes=LOWEST+...+HIGHEST, of {', '.join(names)}"
        )
