"""References to components: reads ``name:key=value``.

The written form is ``name`` or ``name:key=value,key=value``. ``name`` may be ``distribution/name``. A value ends at the
next comma; a first value without a key is that of the first parameter. Square brackets enclose values with commas,
colons or brackets; one enclosing pair is dropped::

    apgd:steps=20,loss=margin           two parameters
    pgd:step=1/255                      a fraction, where a float is expected
    torchattacks:PGD,steps=20           the first parameter, then another
    mlp:widths=[64,32]                  a list, where one is expected
    gate:detector=[mae:score=consistency,mask=0.5],fpr=1/20     a component inside a component
    my models/net.py:build              a file in place of a name; its path may have spaces

Reading needs no plugin; `robustbench_med.plugins.components` finds and builds the component.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from robustbench_med.errors import BadParameter

#: Key of a value that was written without one.
FIRST = ""


@dataclass(frozen=True)
class PartRef:
    """The name of a component and its parameters, as in ``mae:score=consistency``."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str) -> PartRef:
    """Read ``name:key=value,key=value``; values stay text, one enclosing pair of brackets dropped.

    Raises:
        BadParameter: the text is not of that form.
        BadConfig: it names a recipe file that cannot be read.
    """
    name, colon, rest = _partition(text)
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
    if not (_is_file(name) or re.fullmatch(r"[\w./-]+", name)):
        raise BadParameter(f"{text!r} does not start with a name; write name:key=value,key=value")
    # Names of components are in lower case, so that they are read in any.
    return PartRef(*expand(name if _is_file(name) else name.lower(), params, FIRST))


#: Endings of files that stand for a component, by the component.
FILES = {
    ".py": "pytorch",
    ".toml": "recipe",
    **dict.fromkeys((".pt", ".pth", ".ts", ".jit", ".torchscript"), "torchscript"),
}


def _is_file(name: str) -> bool:
    """Whether a name stands for a file: by its ending, there or not, so that a missing file is called missing."""
    return Path(name).suffix in FILES


def _partition(text: str) -> tuple[str, str, str]:
    """Name, colon and the rest: the name ends at the first colon, unless a file has colons in its path."""
    ends = [at for at, char in enumerate(text) if char == ":"] + [len(text)]
    paths = [text[:end].strip() for end in ends]
    there = [end for end, path in zip(ends, paths, strict=True) if _is_file(path) and os.path.isfile(path)]  # noqa: PTH113
    end = (there or ends)[0]
    return text[:end].strip(), text[end : end + 1], text[end + 1 :]


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
    """The value without enclosing brackets, if one pair encloses all of it (in ``[a],[b]`` none does)."""
    if value.startswith("[") and value.endswith("]"):
        depth = 0
        for at, char in enumerate(value):
            depth += (char == "[") - (char == "]")
            if depth == 0:
                return value[1:-1].strip() if at == len(value) - 1 else value
    return value


def expand(name: str, params: Mapping[str, Any], first: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of the component that the file ``name`` stands for; other names are returned unchanged.

    Args:
        name: as written.
        params: its parameters.
        first: key of a value that was written without one.

    Raises:
        BadConfig: the recipe cannot be read.
    """
    kind = FILES.get(Path(name).suffix)
    if kind is None:
        return name, dict(params)
    if kind == "recipe":
        from robustbench_med.files.toml_file import read

        return kind, {**{key: _as_text(value) for key, value in read(Path(name)).items()}, **params}
    named = {("build" if key == first and kind == "pytorch" else key): value for key, value in params.items()}
    return kind, {"source": name, **named}


def _as_text(value: Any) -> Any:
    """A value of a recipe file as the command line has it: ids of cells are made of it, and records hold it."""
    named = not isinstance(value, Mapping) or "name" in value
    return unbracket(_bracketed(_text(value))) if named else value  # without a name it is refused where it is read


def format_params(params: Mapping[str, Any]) -> str:
    """Parameters as on the command line: ``steps=20,detector=[mae:passes=2]``."""
    return ",".join(f"{name}={_bracketed(_text(value))}".removeprefix("=") for name, value in params.items())


def format_ref(ref: PartRef) -> str:
    """A component as on the command line: ``apgd:steps=20``."""
    params = format_params(ref.params)
    return f"{ref.name}:{params}" if params else ref.name


def format_eps(eps: float) -> str:
    """``4/255`` for a multiple of 1/255 below 1, else the number."""
    if eps >= 1:
        return f"{eps:.4g}"
    nearest = Fraction(eps * 255).limit_denominator(10)
    return f"{nearest}/255" if nearest.denominator == 1 and abs(float(nearest) / 255 - eps) < 1e-9 else f"{eps:.4g}"


#: A parameter without a component in it: ``steps=20``, at any depth of brackets.
_ITEM = re.compile(r"(?<=[:,\[])\w+=[^,\[\]]+(?=[,\]]|$)")


def without_shared_params(names: Sequence[str]) -> tuple[list[str], str]:
    """Components without the parameters that all of them share, and these parameters.

    ``a:x=1,y=2`` and ``b:[c:y=2]`` become ``a:x=1`` and ``b:c``, and ``y=2``. Equal names are left as they are.
    """
    found = [dict.fromkeys(_ITEM.findall(name)) for name in names]
    shared = [item for item in (found[0] if found else ()) if all(item in items for items in found)]
    if len(set(names)) < 2 or not shared:
        return list(names), ""
    return [_without(name, set(shared)) for name in names], ",".join(shared)


def _without(name: str, items: set[str]) -> str:
    left = _ITEM.sub(lambda match: "" if match[0] in items else match[0], name)
    left = re.sub(r",{2,}", ",", left).replace(":,", ":").replace(",]", "]").replace("[,", "[").replace(":]", "]")
    return re.sub(r"\[([^,:\[\]]*)\]", r"\1", left).rstrip(",:")


def _text(value: Any) -> str:
    """A parameter's value as text; lists, tables and booleans come from TOML and from Python."""
    if isinstance(value, list | tuple):
        return f"[{','.join(_item(_text(each)) for each in value)}]"
    if isinstance(value, Mapping) and "name" in value:
        params = format_params({name: item for name, item in value.items() if name != "name"})
        return f"{value['name']}:{params}" if params else str(value["name"])
    return str(value).lower() if isinstance(value, bool) else str(value)


def _item(value: str) -> str:
    """An item of a list in brackets if a comma in it would otherwise end it: ``[median:radius=2,passes=3]``."""
    depth = 0
    for char in value:
        depth += (char == "[") - (char == "]")
        if char == "," and depth <= 0:
            return f"[{value}]"
    return value


def _bracketed(value: str) -> str:
    """The value in brackets if a comma, a colon or a bracket in it would otherwise end it."""
    return f"[{value}]" if set(value) & set(",:[]") else value
