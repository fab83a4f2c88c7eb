"""Names that a library defines, looked for in its source: that takes milliseconds, importing it takes seconds."""

from __future__ import annotations

import importlib.machinery
import re
import sys
from pathlib import Path

from robustbench_med.errors import BadParameter, near

_DEFINED = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)


def check_mentioned(folder: str, name: str, component: str) -> None:
    """Raise `BadParameter` for a name that occurs nowhere in the source of a package.

    Of a name that does occur nothing is decided: the library knows, once it is imported, as do those that are loaded.

    Args:
        folder: of the package, such as ``timm/models``.
        name: what is looked for; a tag after a dot is left out, and what is no identifier is not looked for.
        component: kind and name of the component that takes it, such as ``model/timm``.
    """
    package, _, inside = folder.partition("/")
    word = name.partition(".")[0]
    if package in sys.modules or not word.isidentifier():
        return
    spec = importlib.machinery.PathFinder.find_spec(package)
    places = [Path(place) / inside for place in (spec.submodule_search_locations or ())] if spec else []
    texts = [path.read_text("utf-8", "replace") for place in places for path in sorted(place.rglob("*.py"))]
    if not texts or any(re.search(rf"\b{word}\b", text) for text in texts):
        return
    hint = near(word, (found for text in texts for found in _DEFINED.findall(text)))
    raise BadParameter(f"{package} has no {component.partition('/')[0]} {name!r}{hint} see rbmed show {component}")
