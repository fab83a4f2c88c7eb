"""Detectors, purifiers, and the recipe of a defense."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from robustbench_med.errors import HarnessError
from robustbench_med.interfaces.component import Component
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.training import Classifier, Learner, TrainJob
from robustbench_med.plugins.calls import named
from robustbench_med.plugins.references import PartRef

if TYPE_CHECKING:
    from robustbench_med.interfaces.random import Stream


class Part(Component, nn.Module, ABC):
    """A detector or a purifier: a module whose state is stored as safetensors.

    A part is trained in one of two ways; in both, images stay at their client:

    * over all clients: the strategy in the parameter ``training``, such as ``fedavg:rounds=10`` or ``local``, trains
      the module that `learner` returns;
    * at each client separately: `fit` uses the client's own images and classifier.

    Attributes:
        stochastic: two calls on one image may differ; such pipelines are scored on several draws.
        needs: other parts of the system that the weights depend on, such as ``("classifier",)``.
        family: parts of one family share trained weights. Empty: the part's name.

    A field of ``Params`` marked ``json_schema_extra={"runtime": True}`` affects the use of the trained part, not its
    training: weights are found regardless of it. One marked ``{"later": True}`` was added after weights were published:
    these are found as long as it has its default.
    """

    stochastic: bool = True
    needs: tuple[str, ...] = ()
    family: str = ""

    def __init__(self, params: Any = None) -> None:
        nn.Module.__init__(self)
        Component.__init__(self, params)

    def build(self, channels: int, size: int) -> None:
        """Create the modules for square images with ``channels`` and side ``size``; called first."""

    def inner(self) -> tuple[Part, ...]:
        """The parts that this one wraps: submodules with the weights, built by `build`."""
        return ()

    def learner(self, system: System) -> Learner:
        """The module that a strategy trains; it shares its parameters with this part.

        A part that overrides this has a parameter ``training``, the strategy.

        Args:
            system: the other trained parts with the clients' shared state; only those in ``needs``.
        """
        raise NotImplementedError

    def fit(self, split: Split, system: System, job: TrainJob) -> dict[str, float]:
        """Fit at one client, on its own clean training images; return training metrics.

        Called for each client on a copy of the part, after the training of `learner` if there is one. Results are
        stored in buffers that `build` has registered; their shapes may change.

        Args:
            split: the client's training images, with labels.
            system: the client's classifier (and, for a detector, the purifier).
            job: seed, device, progress.
        """
        raise NotImplementedError

    def pictures(self, x: Tensor, rng: Stream) -> dict[str, Tensor]:
        """Rows of images by caption that show the trained part on clean images (N, C, H, W).

        Values of any range, (N, C, H, W); ``rbmed train`` stores them with the weights.
        """
        return {}


class Purifier(Part):
    """Maps images back towards clean ones.

    Attributes:
        differentiable: `purify` has a useful gradient in ``x``; without one, only the rungs `bpda` and `query` apply.
        votes: copies of an image that are classified.
        bounded: what it returns is in [0, 1], which is checked; False for one whose noise is not clamped.
        sigma: of a purifier for randomized smoothing, the standard deviation of its noise in pixel space: `purify`
            gives h(x + sigma * n) for one function h, whatever the strength, with n standard normal and fresh for each
            stream. `rbmed certify` relies on it. None for all others.
    """

    differentiable: bool = True
    votes: int = 1
    bounded: bool = True
    sigma: float | None = None

    @abstractmethod
    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        """Return purified images like ``x``, in [0, 1] if `bounded`, differentiable in ``x`` where the purifier is.

        Args:
            x: images (N, C, H, W) in [0, 1].
            strength: (N,) in [0, 1], how strongly to purify each image.
            rng: one random stream per image; a deterministic purifier ignores it.
        """

    def copies(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        """The purified copies that are classified, (N, votes, C, H, W).

        Raises:
            HarnessError: what `purify` returns is no tensor of the shape of the images.
        """
        made: Any = self.purify(x, strength, rng)
        if not isinstance(made, Tensor) or made.shape != x.shape:
            told = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
            raise HarnessError(f"{named('purifier', self)} returned {told} for images of {tuple(x.shape)}")
        return made.unsqueeze(1)

    def join(self, logits: Tensor) -> Tensor:
        """Logits (N, K) from the logits of the copies, (N, votes, K); differentiable."""
        return logits.squeeze(1)


@dataclass(frozen=True)
class System:
    """The other parts of the same pipeline, which a detector may use. No labels."""

    classifier: Classifier
    purifier: Purifier | None = None


class Detector(Part):
    """Gives each image a score of suspicion. The pipeline sets the threshold."""

    @abstractmethod
    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        """Return one score per image, float32 (N,), larger meaning more suspicious.

        The score of an image must not depend on the other images of the batch.
        """

    @property
    def reach(self) -> float | None:
        """The largest score of an image whose answer lies on the decision boundary; None where there is no bound.

        A detector that compares two answers cannot tell one of them that is hardly confident from a clean image by
        more than this. A threshold near it or above would let such images pass, so that calibration keeps it lower.
        """
        return None

    def error_map(self, x: Tensor, system: System, rng: Stream) -> Tensor | None:
        """The contribution of each pixel to the score, (N, H, W), 0 or more; None if not available."""
        return None


@dataclass(frozen=True)
class Recipe:
    """The parts of a defense and the settings of its gate.

    Attributes:
        model: the classifier's architecture.
        strategy: trains the classifier over the clients.
        detector: None: every image is purified.
        purifier: None with a detector: flagged images are rejected.
        fpr: share of clean calibration images that may be flagged; fixes the threshold.
        strength: of every purification, in [0, 1]; None: it follows the score.
    """

    model: PartRef
    strategy: PartRef
    detector: PartRef | None = None
    purifier: PartRef | None = None
    fpr: float = 0.05
    strength: float | None = None


class Defense(Component, ABC):
    """A defense is a recipe; the harness trains, loads and calibrates it."""

    @abstractmethod
    def recipe(self) -> Recipe:
        """The parts, with their parameters filled in from ``self.params``."""
