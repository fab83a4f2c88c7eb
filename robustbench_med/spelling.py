"""Components as they are written on the command line: the opposite of `robustbench_med.references.parse`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustbench_med.references import PartRef


def spelled(params: Mapping[str, Any]) -> str:
    """Parameters as on the command line: ``steps=20,detector=[mae:passes=2]``."""
    return ",".join(f"{name}={_bracketed(_text(value))}".removeprefix("=") for name, value in params.items())


def spelled_ref(ref: PartRef) -> str:
    """A component as on the command line: ``apgd:steps=20``."""
    params = spelled(ref.params)
    return f"{ref.name}:{params}" if params else ref.name


def spelled_eps(eps: float) -> str:
    """``4/255`` where that is what it is, else the number."""
    nearest = Fraction(eps * 255).limit_denominator(10)
    return f"{nearest}/255" if nearest.denominator == 1 and abs(float(nearest) / 255 - eps) < 1e-9 else f"{eps:.4g}"


#: A parameter that holds no component: ``steps=20`` within any brackets.
_ITEM = re.compile(r"(?<=[:,\[])\w+=[^,\[\]]+(?=[,\]]|$)")


def told_apart(names: Sequence[str]) -> tuple[list[str], str]:
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
    """A parameter's value; lists, tables and truth values come from TOML and from Python."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, Mapping) and "name" in value:
        params = spelled({name: item for name, item in value.items() if name != "name"})
        return f"{value['name']}:{params}" if params else str(value["name"])
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bracketed(value: str) -> str:
    """In brackets where a comma or colon would otherwise end the value."""
    return f"[{value}]" if set(value) & set(",:[]") else value
