"""Training over clients: classifiers, the learners of detectors and purifiers, strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.component import Component
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.tasks import training_loss
from robustbench_med.progress import Progress, Silent


class Learner(nn.Module, ABC):
    """A module with a training loss, which a strategy trains over clients.

    ``personal``: prefixes of the state names that a personalized strategy keeps at each client.
    ``heads``: prefixes of the last layers, from features to classes, which strategies that share only features keep.
    """

    personal: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Training loss, a scalar, of images in [0, 1] (N, C, H, W) with labels int64 (N,), of findings (N, K).

        Random numbers come from torch's global generator, which the harness has seeded.
        """


class Classifier(Learner):
    """A classifier: images in [0, 1] (N, C, H, W) -> logits (N, K); normalisation happens inside.

    ``stochastic``: two calls on one image may differ. Such a model draws from torch's global generator, which the
    harness seeds and restores; it is evaluated on several draws.

    ``notes``: what a user should know about how it was put together, shown before a run, one line each.
    """

    stochastic: bool = False
    notes: tuple[str, ...] = ()

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, or of findings binary cross-entropy, unless the model adds terms of its own."""
        return training_loss(self(x), y)

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, F), the input of the last layers, for detectors that use them.

        Raises:
            NotDefined: the classifier has none.
        """
        raise NotDefined(f"{type(self).__name__} offers no features (method embed)")


class Model(Component, ABC):
    """An architecture: builds classifiers, untrained unless its parameters name weights.

    ``classes``: names of the classes in the order of the logits, if fixed; empty: those of the data set.
    ``strategy``: what it is used with in place of the recipe's own strategy, such as ``pretrained`` where it comes with
    weights; empty: the recipe's own.
    """

    classes: tuple[str, ...] = ()
    strategy: str = ""

    @abstractmethod
    def build(self, num_classes: int, channels: int, size: int) -> Classifier:
        """A fresh classifier for ``num_classes`` >= 2 classes of square images with ``channels`` and side ``size``."""

    def build_findings(self, findings: int, channels: int, size: int) -> Classifier:
        """A fresh classifier for a multi-label task: one logit for each of ``findings`` >= 1, > 0 where it is there.

        A model whose classifiers have one logit for each class need not override this.
        """
        return self.build(findings, channels, size)


@dataclass(frozen=True)
class TrainJob:
    """Settings of a training.

    Attributes:
        seed: makes the training repeatable.
        device: of the tensors.
        progress: opens progress bars (`robustbench_med.progress`).
        checkpoints: folder for resumable state; None trains without checkpoints. Only safetensors and JSON go there.
        origin: references, as text, to what is trained (``dataset``, ``partition``, ``unseen``, ``model``,
            ``strategy``, ``data_root``), for strategies that start other processes; empty if not available. For the
            training of a part, ``detector`` or ``purifier`` replaces ``model``.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: Progress = field(default_factory=Silent)
    checkpoints: Path | None = None
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Federated:
    """The result of a federated training.

    Attributes:
        shared: state of the learner at every client.
        personal: by client, entries that replace those of ``shared`` (empty for a global model).
        history: one dict per round, for the manifest.
        exact: the states are stored in full precision, as weights that were trained elsewhere are.
    """

    shared: dict[str, Tensor]
    personal: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exact: bool = False


class Strategy(Component, ABC):
    """Trains one model over several clients: a classifier, or the learner of a detector or purifier.

    ``trains``: False for one that takes the model as it is built, so that it needs no images and no permission.
    """

    trains: bool = True

    def classifier(self, build: Callable[[], Classifier]) -> Classifier:
        """A fresh instance of the classifier that is trained and deployed: as built, unless several are combined."""
        return build()

    @abstractmethod
    def train(self, build: Callable[[], Learner], clients: Mapping[str, Split], job: TrainJob) -> Federated:
        """Train.

        Args:
            build: makes a fresh learner, its weights drawn from torch's global generator, which the harness has seeded.
            clients: training images per client, by client name; used only in the client's own training code.
            job: seed, device, progress, checkpoints.
        """
