"""Detectors, purifiers, and the recipe that puts a defense together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from robustbench_med.interfaces.component import Component
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.training import Classifier, Learner, TrainJob
from robustbench_med.plugins.references import PartRef

if TYPE_CHECKING:
    from robustbench_med.interfaces.random import Stream


class Part(Component, nn.Module, ABC):
    """A detector or a purifier: a module whose state is stored as safetensors.

    A part learns in one of two ways, and no client's images leave the client in either:

    * over all clients: `learner` is what a strategy trains, the one that the parameter ``training`` names, such as
      ``fedavg:rounds=10`` or ``local``;
    * at each client by itself: `fit` sees the client's own images and its own classifier.

    Attributes:
        stochastic: two calls on one image may differ; such pipelines are scored on several draws.
        needs: other parts of the system that the weights depend on: ``("classifier",)``.
        family: parts of one family share weights: what one has learned serves the others. Empty: the part's name.

    A field of ``Params`` marked ``json_schema_extra={"runtime": True}`` changes how the trained part is used, not how
    it is trained: weights are found regardless of it.
    """

    stochastic: bool = True
    needs: tuple[str, ...] = ()
    family: str = ""

    def __init__(self, params: Any = None) -> None:
        nn.Module.__init__(self)
        Component.__init__(self, params)

    def build(self, channels: int, size: int) -> None:
        """Create the modules for square images with ``channels`` and side ``size``; called before all else."""

    def inner(self) -> tuple[Part, ...]:
        """The parts that this one wraps; they hold the weights, and are submodules that `build` builds."""
        return ()

    def learner(self, system: System) -> Learner:
        """The module that a strategy trains; it lives inside this part, so its state is read from here.

        A part that overrides this has a parameter ``training``: the strategy.

        Args:
            system: the other parts, trained, with the state that all clients share; only those that ``needs`` names.
        """
        raise NotImplementedError

    def fit(self, split: Split, system: System, job: TrainJob) -> dict[str, float]:
        """Learn at one client, from its own clean training images; return training metrics.

        Called for each client on a copy of the part, after `learner` if there is one. What is learned goes into
        buffers that `build` has registered; their shapes may change.

        Args:
            split: the client's training images, with labels.
            system: the client's classifier (and, for a detector, the purifier).
            job: seed, device, progress.
        """
        raise NotImplementedError

    def pictures(self, x: Tensor, rng: Stream) -> dict[str, Tensor]:
        """Rows of pictures for people, by caption: what the trained part makes of clean images (N, C, H, W).

        Values of any range, (N, C, H, W); written beside the weights by ``rbmed train``.
        """
        return {}


class Purifier(Part):
    """Maps images back towards clean ones.

    Attributes:
        differentiable: `purify` has a useful gradient in ``x``; without one, no rung needs it but `bpda` and `query`.
        votes: copies of an image that the classifier is asked about.
    """

    differentiable: bool = True
    votes: int = 1

    @abstractmethod
    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        """Return purified images like ``x``, in [0, 1], differentiable in ``x`` where the purifier is.

        Args:
            x: images (N, C, H, W) in [0, 1].
            strength: (N,) in [0, 1], how strongly to purify each image.
            rng: one random stream per image; a deterministic purifier ignores it.
        """

    def copies(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        """The purified copies that the classifier is asked about, (N, votes, C, H, W)."""
        return self.purify(x, strength, rng).unsqueeze(1)

    def join(self, logits: Tensor) -> Tensor:
        """One answer (N, K) from the logits of the copies, (N, votes, K); differentiable."""
        return logits.squeeze(1)


@dataclass(frozen=True)
class System:
    """What a detector may look at besides the image: the other parts of the same pipeline. No labels."""

    classifier: Classifier
    purifier: Purifier | None = None


class Detector(Part):
    """Scores how suspicious an image is. The pipeline owns the threshold."""

    @abstractmethod
    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        """Return one score per image, float32 (N,), larger meaning more suspicious.

        The score of an image must not depend on the other images of the batch.
        """

    def error_map(self, x: Tensor, system: System, rng: Stream) -> Tensor | None:
        """Where in the image the suspicion lies, (N, H, W), 0 or more; None for a detector that cannot say."""
        return None


@dataclass(frozen=True)
class Recipe:
    """A defense: which parts, and how the gate is set.

    Attributes:
        model: the classifier's architecture.
        strategy: how it is trained over the clients.
        detector: None lets every image through to the purifier.
        purifier: None with a detector means that flagged images are rejected.
        fpr: share of clean calibration images that may be flagged; fixes the threshold.
        strength: purifies every flagged image this strongly, in [0, 1]; None: as strongly as its score says.
    """

    model: PartRef
    strategy: PartRef
    detector: PartRef | None = None
    purifier: PartRef | None = None
    fpr: float = 0.05
    strength: float | None = None


class Defense(Component, ABC):
    """A defense is a recipe; training, loading and calibration are the harness's work."""

    @abstractmethod
    def recipe(self) -> Recipe:
        """The parts, with their parameters filled in from ``self.params``."""
