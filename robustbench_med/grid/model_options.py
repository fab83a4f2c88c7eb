"""A model of one's own among the options of a run: named without a defense, and with weights in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from robustbench_med.errors import BadParameter, WeightsError, shortened
from robustbench_med.files.hub_name import hub_name, on_hub
from robustbench_med.grid.options import listed, reference
from robustbench_med.plugins.references import PartRef, format_ref


def of_own_model(values: dict[str, Any]) -> dict[str, Any]:
    """A model that is named without a defense is measured undefended; weights in one file belong to it.

    Raises:
        BadParameter: there is no model for the weights, or there are several.
        WeightsError: there are no such weights.
    """
    if values.get("model") and not values.get("defense"):
        values = {"baseline": None, **values, "defense": "undefended"}
    weights = values.get("weights")
    if on_hub(weights):
        hub_name(str(weights))
        return values
    if not isinstance(weights, str | Path) or os.path.isdir(weights):  # noqa: PTH112 - raises for no text
        return values
    if not os.path.exists(weights):  # noqa: PTH110
        raise WeightsError(f"--weights {shortened(str(weights))}: there is no such file or folder")
    models = list(listed(values.get("model") or []))
    if len(models) != 1:
        raise BadParameter(f"--weights {weights} is a file, which needs one --model, such as net.py:build")
    model = reference(models[0], "model")
    kept = {name: value for name, value in values.items() if name != "weights"}
    return {**kept, "model": format_ref(PartRef(model.name, {**model.params, "weights": str(weights)}))}
