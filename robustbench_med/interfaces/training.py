"""What is trained over clients, and how: classifiers, the learners of detectors and purifiers, strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.component import Component
from robustbench_med.interfaces.dataset import Split
from robustbench_med.progress import Progress, Silent


class Learner(nn.Module, ABC):
    """What a strategy trains over clients: a module with a training loss.

    ``personal`` lists prefixes of state names that belong to one client (a personalized strategy keeps them local).
    ``heads`` lists those of the last layers, from features to classes (strategies that share only features keep them).
    """

    personal: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Training loss, a scalar, of images in [0, 1] (N, C, H, W) with labels int64 (N,).

        Random numbers are drawn from torch's global generator, which the harness has seeded.
        """


class Classifier(Learner):
    """A classifier: images in [0, 1] (N, C, H, W) -> logits (N, K); normalisation happens inside.

    ``stochastic`` says that two calls on one image may differ. Such a model draws from torch's global generator, which
    the harness seeds and puts back; it is scored on several draws.
    """

    stochastic: bool = False

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, unless the model adds terms of its own."""
        return F.cross_entropy(self(x), y)

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, F) that the last layers turn into logits, for detectors that look at them.

        Raises:
            NotDefined: the classifier offers none.
        """
        raise NotDefined(f"{type(self).__name__} offers no features (method embed)")


class Model(Component, ABC):
    """An architecture: builds classifiers, untrained unless its parameters name weights.

    ``classes`` names what they answer with, in order, where that is fixed; empty: as the data set's classes are.
    """

    classes: tuple[str, ...] = ()

    @abstractmethod
    def build(self, num_classes: int, channels: int, size: int) -> Classifier:
        """A fresh classifier for ``num_classes`` >= 2 classes of square images with ``channels`` and side ``size``."""


@dataclass(frozen=True)
class TrainJob:
    """Where and how a part is trained.

    Attributes:
        seed: makes the training repeatable.
        device: where the tensors live.
        progress: opens progress bars (`robustbench_med.progress`).
        checkpoints: folder for resumable state; None trains without checkpoints. Only safetensors and JSON go there.
        origin: what is trained on what, as references in text (``dataset``, ``partition``, ``unseen``, ``model``,
            ``strategy``, ``data_root``), for strategies that start other processes; empty where nobody named them. A
            detector or a purifier that is trained is named by ``detector`` or ``purifier`` in place of ``model``.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: Progress = field(default_factory=Silent)
    checkpoints: Path | None = None
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Federated:
    """A trained federation.

    Attributes:
        shared: state of the learner that every client holds.
        personal: per client, the state that replaces entries of ``shared`` there (empty for a global model).
        history: one dict per round, for the manifest.
    """

    shared: dict[str, Tensor]
    personal: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


class Strategy(Component, ABC):
    """Trains one model over several clients: a classifier, or the learner of a detector or purifier."""

    def classifier(self, build: Callable[[], Classifier]) -> Classifier:
        """The classifier that is trained and deployed, fresh: as built, unless the strategy combines several."""
        return build()

    @abstractmethod
    def train(self, build: Callable[[], Learner], clients: Mapping[str, Split], job: TrainJob) -> Federated:
        """Train.

        Args:
            build: makes a fresh learner, its weights drawn from torch's global generator, which the harness has seeded.
            clients: training images per client, by client name; they never leave the client's own training code.
            job: seed, device, progress, checkpoints.
        """
