"""robustbench-med: how robust a medical-imaging model and its defense are.

Public names load on first use, so that ``import robustbench_med`` stays light.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as type checkers take it; importing it would double the time of the first import
if TYPE_CHECKING:
    from typing import Any

    from pydantic import Field as Field

    from robustbench_med.api import evaluate as evaluate
    from robustbench_med.api import load_component as load_component
    from robustbench_med.api import load_dataset as load_dataset
    from robustbench_med.api import load_defense as load_defense
    from robustbench_med.api import train_defense as train_defense
    from robustbench_med.datasets.from_python import OwnData as OwnData
    from robustbench_med.datasets.from_python import held_data as held_data
    from robustbench_med.datasets.from_python import own_data as own_data
    from robustbench_med.defenses.from_python import held as held
    from robustbench_med.evaluation.results import Results as Results
    from robustbench_med.evaluation.results import read_results as read_results
    from robustbench_med.files.escaping import escape_markdown as escape_markdown
    from robustbench_med.files.paths import home as home
    from robustbench_med.interfaces.attack import Attack as Attack
    from robustbench_med.interfaces.attack import TargetModel as TargetModel
    from robustbench_med.interfaces.attack import margin as margin
    from robustbench_med.interfaces.component import Number as Number
    from robustbench_med.interfaces.component import Params as Params
    from robustbench_med.interfaces.dataset import COLOUR_LOST as COLOUR_LOST
    from robustbench_med.interfaces.dataset import SPLIT_NOT_USED as SPLIT_NOT_USED
    from robustbench_med.interfaces.dataset import DataCard as DataCard
    from robustbench_med.interfaces.dataset import Dataset as Dataset
    from robustbench_med.interfaces.dataset import Fold as Fold
    from robustbench_med.interfaces.dataset import Split as Split
    from robustbench_med.interfaces.defense import Defense as Defense
    from robustbench_med.interfaces.defense import Detector as Detector
    from robustbench_med.interfaces.defense import Part as Part
    from robustbench_med.interfaces.defense import Purifier as Purifier
    from robustbench_med.interfaces.defense import Recipe as Recipe
    from robustbench_med.interfaces.defense import System as System
    from robustbench_med.interfaces.metric import Metric as Metric
    from robustbench_med.interfaces.metric import Report as Report
    from robustbench_med.interfaces.plural import plural as plural
    from robustbench_med.interfaces.random import Stream as Stream
    from robustbench_med.interfaces.random import seed_of as seed_of
    from robustbench_med.interfaces.rate import Rate as Rate
    from robustbench_med.interfaces.rate import interval as interval
    from robustbench_med.interfaces.rate import percent as percent
    from robustbench_med.interfaces.rate import wilson as wilson
    from robustbench_med.interfaces.results import Outcome as Outcome
    from robustbench_med.interfaces.results import Predictions as Predictions
    from robustbench_med.interfaces.results import RungResult as RungResult
    from robustbench_med.interfaces.tasks import decode as decode
    from robustbench_med.interfaces.tasks import right_answers as right_answers
    from robustbench_med.interfaces.tasks import training_loss as training_loss
    from robustbench_med.interfaces.threat import Budget as Budget
    from robustbench_med.interfaces.threat import ThreatModel as ThreatModel
    from robustbench_med.interfaces.training import Classifier as Classifier
    from robustbench_med.interfaces.training import Federated as Federated
    from robustbench_med.interfaces.training import Learner as Learner
    from robustbench_med.interfaces.training import Model as Model
    from robustbench_med.interfaces.training import Strategy as Strategy
    from robustbench_med.interfaces.training import TrainJob as TrainJob
    from robustbench_med.plugins.components import read_choice as read_choice
    from robustbench_med.plugins.references import PartRef as PartRef
    from robustbench_med.plugins.references import format_eps as format_eps
    from robustbench_med.plugins.references import format_ref as format_ref
    from robustbench_med.plugins.references import fraction as fraction
    from robustbench_med.plugins.references import parse as parse
    from robustbench_med.plugins.references import without_shared_params as without_shared_params
    from robustbench_med.plugins.specs import INTERFACE as INTERFACE
    from robustbench_med.plugins.specs import AttackSpec as AttackSpec
    from robustbench_med.plugins.specs import DatasetSpec as DatasetSpec
    from robustbench_med.plugins.specs import DefenseSpec as DefenseSpec
    from robustbench_med.plugins.specs import DetectorSpec as DetectorSpec
    from robustbench_med.plugins.specs import MetricSpec as MetricSpec
    from robustbench_med.plugins.specs import ModelSpec as ModelSpec
    from robustbench_med.plugins.specs import PurifierSpec as PurifierSpec
    from robustbench_med.plugins.specs import ReportSpec as ReportSpec
    from robustbench_med.plugins.specs import Spec as Spec
    from robustbench_med.plugins.specs import StrategySpec as StrategySpec
    from robustbench_med.plugins.specs import hookimpl as hookimpl
    from robustbench_med.records.table import to_csv as to_csv
    from robustbench_med.runtime.isolation import isolated as isolated

__version__ = "0.1.0"

#: The public names that are imported on first use, by module.
_LAZY = {
    "pydantic": "Field",
    "robustbench_med.api": "evaluate load_component load_dataset load_defense train_defense",
    "robustbench_med.files.escaping": "escape_markdown",
    "robustbench_med.files.paths": "home",
    "robustbench_med.interfaces.attack": "Attack TargetModel margin",
    "robustbench_med.interfaces.component": "Number Params",
    "robustbench_med.interfaces.dataset": "COLOUR_LOST DataCard Dataset Fold SPLIT_NOT_USED Split",
    "robustbench_med.interfaces.defense": "Defense Detector Part Purifier Recipe System",
    "robustbench_med.interfaces.metric": "Metric Report",
    "robustbench_med.interfaces.plural": "plural",
    "robustbench_med.interfaces.random": "Stream seed_of",
    "robustbench_med.interfaces.rate": "Rate interval percent wilson",
    "robustbench_med.interfaces.results": "Outcome Predictions RungResult",
    "robustbench_med.interfaces.tasks": "decode right_answers training_loss",
    "robustbench_med.interfaces.threat": "Budget ThreatModel",
    "robustbench_med.interfaces.training": "Classifier Federated Learner Model Strategy TrainJob",
    "robustbench_med.plugins.components": "read_choice",
    "robustbench_med.datasets.from_python": "OwnData held_data own_data",
    "robustbench_med.defenses.from_python": "held",
    "robustbench_med.plugins.references": "PartRef format_eps format_ref fraction parse without_shared_params",
    "robustbench_med.plugins.specs": (
        "INTERFACE AttackSpec DatasetSpec DefenseSpec DetectorSpec MetricSpec ModelSpec PurifierSpec ReportSpec Spec "
        "StrategySpec hookimpl"
    ),
    "robustbench_med.records.table": "to_csv",
    "robustbench_med.evaluation.results": "Results read_results",
    "robustbench_med.runtime.isolation": "isolated",
}
_HOME = {name: module for module, names in _LAZY.items() for name in names.split()}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
