"""Which cells of a grid are selected: patterns over the labels of a cell.

A pattern is ``key=text,key=text`` or a table of the same; a cell fits if every key does. In a text ``*`` stands for any
characters and ``?`` for one; a list of texts, in a table, fits if one of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from robustbench_med.errors import BadParameter
from robustbench_med.plugins.references import format_eps, fraction, split_list, unbracket

#: The labels of a cell, in the order in which they are shown; `robustbench_med.grid.cell` fills them.
CELL_LABELS = (
    "dataset", "partition", "model", "strategy", "train_seed", "defense", "attack", "access", "norm", "eps", "goal",
    "finding", "client", "seed", "role",
)  # fmt: skip


@dataclass(frozen=True)
class Pattern:
    """What a cell has to be called.

    Attributes:
        texts: for each key, the texts of which one has to fit.
        source: as it was written.
    """

    texts: Mapping[str, tuple[str, ...]]
    source: str

    def fits(self, cell_labels: Mapping[str, str]) -> bool:
        """Whether a cell with these `robustbench_med.grid.cell.cell_labels` is meant."""
        return all(any(_like(text, cell_labels[key]) for text in texts) for key, texts in self.texts.items())

    def unfit(self, known: Mapping[str, Collection[str]]) -> str:
        """The first key of which none of the labels that cells can have fits; "" where one does of every key."""
        for key in self.texts:
            if key in known and not any(_like(text, label) for text in self.texts[key] for label in known[key]):
                return key
        return ""


def read(written: str | Mapping[str, Any]) -> Pattern:
    """The pattern that was written.

    Raises:
        BadParameter: it is empty, names an unknown key, or a value is neither text, number nor a list of these.
    """
    pairs = _pairs(written) if isinstance(written, str) else list(written.items())
    source = written if isinstance(written, str) else ", ".join(f"{key}={value}" for key, value in pairs)
    texts: dict[str, tuple[str, ...]] = {}
    for key, value in pairs:
        if key not in CELL_LABELS:
            raise BadParameter(f"unknown key {key!r} in the pattern {source!r}; valid: {', '.join(CELL_LABELS)}")
        if key in texts:
            raise BadParameter(f"{key!r} stands twice in the pattern {source!r}; write two patterns")
        texts[key] = tuple(_text(key, each, source) for each in (value if isinstance(value, list) else [value]))
    if not texts or not all(texts.values()):
        raise BadParameter(f"the pattern {source!r} says nothing; write key=text,key=text, such as defense=medfedpure*")
    return Pattern(texts, source)


def chooser(include: Iterable[Pattern], exclude: Iterable[Pattern]) -> Callable[[Mapping[str, str]], bool]:
    """Tells of a cell's labels whether it is wanted: one of ``include`` fits, if there are any, and no ``exclude``."""
    include, exclude = tuple(include), tuple(exclude)

    def wanted(cell_labels: Mapping[str, str]) -> bool:
        inside = not include or any(pattern.fits(cell_labels) for pattern in include)
        return inside and not any(pattern.fits(cell_labels) for pattern in exclude)

    return wanted


def _pairs(written: str) -> list[tuple[str, Any]]:
    pairs = []
    for item in split_list(written):
        key, equals, text = item.partition("=")
        if not equals:
            raise BadParameter(
                f"{item!r} in the pattern {written!r} is not key=text; write key=text,key=text, with brackets around a "
                f"text that has commas: attack=[apgd:steps=20,loss=ce]"
            )
        pairs.append((key.strip(), unbracket(text.strip())))
    return pairs


def _text(key: str, value: Any, source: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadParameter(f"{key}={value!r} in the pattern {source!r} is no text or number, nor a list of these")
    if key == "eps" and not set(str(value)) & set("*?"):
        return format_eps(fraction(str(value)))  # 0.0157 is written 4/255 in a cell
    return str(value)


def _like(text: str, name: str) -> bool:
    """Only ``*`` and ``?`` are special: names hold brackets, which would be read as sets of characters."""
    return fnmatchcase(name, text.replace("[", "[[]"))
