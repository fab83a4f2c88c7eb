"""What a plugin implements: one small base class per kind.

Images are float32 in [0, 1] with shape (N, C, H, W) everywhere; normalisation belongs inside the model. Labels reach
attacks, metrics and training, never a detector, a purifier or a pipeline at work.
"""

from robustbench_med.interfaces.attack import Attack, TargetModel
from robustbench_med.interfaces.component import Component, Params
from robustbench_med.interfaces.dataset import Dataset
from robustbench_med.interfaces.defense import Defense, Detector, Part, Purifier, Recipe, System
from robustbench_med.interfaces.metric import Metric, Report
from robustbench_med.interfaces.training import Classifier, Federated, Learner, Model, Strategy, TrainJob

__all__ = [
    "Attack",
    "Classifier",
    "Component",
    "Dataset",
    "Defense",
    "Detector",
    "Federated",
    "Learner",
    "Metric",
    "Model",
    "Params",
    "Part",
    "Purifier",
    "Recipe",
    "Report",
    "Strategy",
    "System",
    "TargetModel",
    "TrainJob",
]  # fmt: skip
