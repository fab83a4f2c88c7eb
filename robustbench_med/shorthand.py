"""Files as components: a recipe in TOML is a defense, a function in a Python file is a model.

::

    mine.toml                    recipe with what the file says
    mine.toml:fpr=0.1            the same, but for one parameter
    net.py:build,mean=[0.5]      pytorch:source=net.py,build=build,mean=[0.5]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def expand(name: str, params: Mapping[str, Any], first: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of the component that ``name`` is short for; unchanged where it is no file.

    Args:
        name: as written.
        params: its parameters.
        first: key of a value that was written without one.

    Raises:
        BadConfig: the recipe cannot be read.
    """
    if name.endswith(".py"):
        named = {("build" if key == first else key): value for key, value in params.items()}
        return "pytorch", {"source": name, **named}
    if name.endswith(".toml"):
        from robustbench_med.files.toml_file import read

        return "recipe", {**read(Path(name)), **params}
    return name, dict(params)
