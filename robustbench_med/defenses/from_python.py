"""Modules and images that a Python program hands over in place of the name of a model or of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robustbench_med.errors import BadParameter

if TYPE_CHECKING:
    from torch import nn

#: Modules of this process by their keys.
_HELD: dict[str, nn.Module] = {}


def held(key: str) -> nn.Module:
    """The module that was handed over under this key.

    Raises:
        BadParameter: there is none in this process.
    """
    if key not in _HELD:
        raise BadParameter(
            f"there is no module {key!r} in this process; hand it to evaluate(model=...), with executor='local'"
        )
    return _HELD[key]


def hold(module: nn.Module) -> str:
    """Keep a module; the key names its class, and changes with all that its answers depend on."""
    from robustbench_med.defenses.module_digest import module_digest

    key = f"{type(module).__name__}-{module_digest(module)}"
    _HELD[key] = module
    return key


def named(model: Any, plain: bool = False) -> Any:
    """A model as a reference: a module, alone or as the name in a table, is kept; the rest is returned as it is.

    ``plain``: modules get images in [0, 1] as they are, unless a table says otherwise; a `Classifier` always does.
    """
    from torch import nn

    from robustbench_med.interfaces.training import Classifier

    if isinstance(model, nn.Module):
        model = {"name": model}
    if isinstance(model, Mapping) and isinstance(module := model.get("name"), nn.Module):
        as_it_is = {"mean": [0], "std": [1]} if plain or isinstance(module, Classifier) else {}
        return {**as_it_is, **model, "name": "object", "source": hold(module)}
    if isinstance(model, list | tuple):
        return [named(each, plain) for each in model]
    return model
