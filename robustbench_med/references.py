"""References to components: reads ``name:key=value``.

The written form is ``name`` or ``name:key=value,key=value``. ``name`` may be ``distribution/name``. A value ends at the
next comma, and a first value without a key is that of the first parameter; square brackets keep commas, colons and
further brackets together, and one enclosing pair is dropped::

    apgd:steps=20,loss=margin           two parameters
    pgd:step=1/255                      a fraction, where a float is expected
    torchattacks:PGD,steps=20           the first parameter, then another
    mlp:widths=[64,32]                  a list, where one is expected
    gate:detector=[mae:score=consistency,mask=0.5],fpr=1/20     a component inside a component

Reading needs no plugin and imports nothing heavy; `robustbench_med.components` finds and builds what is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robustbench_med.errors import BadParameter
from robustbench_med.shorthand import expand

#: Key of a value that was written without one.
FIRST = ""


@dataclass(frozen=True)
class PartRef:
    """Names a component and its parameters, as in ``mae:score=consistency``."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str) -> PartRef:
    """Read ``name:key=value,key=value``; values stay text, one enclosing pair of brackets dropped.

    Raises:
        BadParameter: the text is not of that form.
        BadConfig: it names a recipe (`robustbench_med.shorthand`) that cannot be read.
    """
    name, colon, rest = text.partition(":")
    name = name.strip()
    params: dict[str, str] = {}
    for at, item in enumerate(split_list(rest, text) if colon else ()):
        key, equals, value = (part.strip() for part in item.partition("="))
        if at == 0 and key and not equals:
            params[FIRST] = unbracket(key)
            continue
        if not (equals and key.isidentifier() and value):
            raise BadParameter(f"{text!r}: {item!r} is not key=value; write name:key=value,key=value")
        if key in params:
            raise BadParameter(f"{text!r}: parameter {key!r} is given twice")
        params[key] = unbracket(value)
    if not re.fullmatch(r"[\w./-]+", name):
        raise BadParameter(f"{text!r} does not start with a name; write name:key=value,key=value")
    return PartRef(*expand(name, params, FIRST))


def split_list(text: str, whole: str | None = None) -> list[str]:
    """Split at the commas outside square brackets; raises `BadParameter` where brackets do not match."""
    items, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if depth < 0:
            break
        if char == "," and depth == 0:
            items.append(text[start:at].strip())
            start = at + 1
    if depth:
        raise BadParameter(f"{whole or text!r}: square brackets do not match")
    return [*items, text[start:].strip()]


def fraction(text: str) -> float:
    """A float from ``0.03``, ``1e-3`` or ``4/255``; raises `BadParameter` for anything else."""
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError):
        raise BadParameter(f"{text!r} is not a number or a fraction such as 4/255") from None


def unbracket(value: str) -> str:
    """Without the enclosing brackets, if one pair encloses all of it (``[a],[b]`` is no such text)."""
    if value.startswith("[") and value.endswith("]"):
        depth = 0
        for at, char in enumerate(value):
            depth += (char == "[") - (char == "]")
            if depth == 0:
                return value[1:-1].strip() if at == len(value) - 1 else value
    return value
