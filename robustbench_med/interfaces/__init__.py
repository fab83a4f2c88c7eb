"""What a plugin implements: one small base class per kind.

Images are float32 in [0, 1] with shape (N, C, H, W) everywhere; normalisation belongs inside the model. Labels reach
attacks, metrics and training, never a detector, a purifier or a deployed pipeline.

The classes load on first use: `robustbench_med.interfaces.threat` and `.rate` are used where torch is not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustbench_med.interfaces.attack import Attack as Attack
    from robustbench_med.interfaces.attack import TargetModel as TargetModel
    from robustbench_med.interfaces.component import Component as Component
    from robustbench_med.interfaces.component import Number as Number
    from robustbench_med.interfaces.component import Params as Params
    from robustbench_med.interfaces.dataset import Dataset as Dataset
    from robustbench_med.interfaces.defense import Defense as Defense
    from robustbench_med.interfaces.defense import Detector as Detector
    from robustbench_med.interfaces.defense import Part as Part
    from robustbench_med.interfaces.defense import Purifier as Purifier
    from robustbench_med.interfaces.defense import Recipe as Recipe
    from robustbench_med.interfaces.defense import System as System
    from robustbench_med.interfaces.metric import Metric as Metric
    from robustbench_med.interfaces.metric import Report as Report
    from robustbench_med.interfaces.training import Classifier as Classifier
    from robustbench_med.interfaces.training import Federated as Federated
    from robustbench_med.interfaces.training import Learner as Learner
    from robustbench_med.interfaces.training import Model as Model
    from robustbench_med.interfaces.training import Strategy as Strategy
    from robustbench_med.interfaces.training import TrainJob as TrainJob

_MODULES = {
    "attack": ("Attack", "TargetModel"),
    "component": ("Component", "Number", "Params"),
    "dataset": ("Dataset",),
    "defense": ("Defense", "Detector", "Part", "Purifier", "Recipe", "System"),
    "metric": ("Metric", "Report"),
    "training": ("Classifier", "Federated", "Learner", "Model", "Strategy", "TrainJob"),
}
__all__ = [name for names in _MODULES.values() for name in names]


def __getattr__(name: str) -> Any:
    """Import a class on first use (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
