"""Wrong answers whose features look like those of clean images (hierarchical feature constraint)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import GradientAttack, State, StepRule
from rbmed_attacks.losses import Loss
from rbmed_attacks.momentum import CosineStep
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel
from robustbench_med.errors import NotDefined

#: Passes of Lloyd's algorithm that place the components of a class.
LLOYD = 10
#: Least share of a spherical covariance that is mixed into the estimated one, so that it can be inverted.
SHRINKAGE = 0.1


class HFC(rbmed.Attack):
    """Hides from detectors of features: the loss rises while the features move into a wrong class's distribution.

    At each named layer, the features of clean images are modelled as Gaussian components for each class. The attack
    maximises the classification loss minus, for every layer, half the squared Mahalanobis distance to the nearest
    component of a wrong class, divided by the number of features (Yao et al., "A hierarchical feature constraint to
    camouflage medical adversarial attacks", MICCAI 2021, arXiv:2012.09501). As there, maps are averaged, and the
    component is chosen anew in each step. Unlike there, the components have one covariance, since a client has few
    images, and the default loss is one that saturates once the answer is wrong, not cross-entropy, which drives the
    features further out.

    It needs a rung that sees the classifier, and reads clean images of the client there (`TargetModel.clean_features`).
    Each step costs one pass for the loss and one for the features. Linf, L2 and L1, K >= 2 classes.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
        NotDefined: the adversary sees no classifier, it offers no features, or a wrong class has no clean image.
        BadParameter: the classifier has no such layer.
    """

    class Params(rbmed.Params):
        steps: int = Field(50, ge=1, description="Gradients of the loss, and as many of the features.")
        layers: str = Field(
            "",
            description="Layers of the classifier, as layer1+layer2; empty: the features before the last layers.",
        )
        weight: float = Field(10.0, ge=0, description="Of the feature term; 0 leaves the loss alone.")
        components: int = Field(8, ge=1, description="Gaussian components of each class, at most one for 8 images.")
        loss: Loss = Field("logistic", description="What is maximised besides: logistic, ce, dlr, margin, vote.")

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``."""
        layers = tuple(filter(None, self.params.layers.split("+")))
        found, labels = model.clean_features(layers)
        clean = [components(each.double(), labels, self.params.components) for each in found]
        # Of the passes, one of each draws + 1 reads the features.
        share = (model.draws, model.draws + 1)
        limits = {name: limit and limit * share[0] // share[1] for name, limit in vars(budget).items()}
        search = _Search(self.params, layers, clean)
        return search.run(model, x, y, threat, replace(budget, **limits), rng)


class _Search(GradientAttack):
    """The search of `HFC`, which knows the distributions."""

    Params = HFC.Params

    def __init__(self, params: Any, layers: tuple[str, ...], clean: list[Components]) -> None:
        super().__init__(params)
        self.layers, self.clean = layers, clean
        self.checked = False

    def step(self, state: State, steps: int) -> StepRule:
        """Momentum steps that shrink."""
        return CosineStep(state, steps, 0.9, 0.5 * state.threat.eps, 0.02 * state.threat.eps)

    def also(self, model: TargetModel, y: Tensor) -> Callable[[Tensor], Tensor]:
        """The feature term of images, (N,): at most 0."""
        kinds = model.kinds(y)
        if not self.checked:  # once a run: a GPU is waited for, and later steps hold the same images or fewer
            for each in self.clean:
                each.check(kinds)
            self.checked = True

        def term(x: Tensor) -> Tensor:
            seen = model.features(x, self.layers)
            far = [each.distance(here, kinds) / here.shape[1] for each, here in zip(self.clean, seen, strict=True)]
            weight: float = self.params.weight
            return -weight / 2 * torch.stack(far).sum(0)

        return term


@dataclass(frozen=True)
class Components:
    """Gaussian components of one covariance.

    Attributes:
        means: (M, F), float64.
        whiten: (F, F); its rows times a difference have variance 1.
        classes: of each component, int64 (M,).
    """

    means: Tensor
    whiten: Tensor
    classes: Tensor

    def check(self, y: Tensor) -> None:
        """Raise `NotDefined` if there is no component of a class other than one of ``y``, (N,)."""
        if not (self.classes != y[:, None]).any(1).all():
            raise NotDefined("hfc needs clean images of a wrong class, and the client's are all of one class")

    def distance(self, seen: Tensor, y: Tensor) -> Tensor:
        """Squared Mahalanobis distance (N,) of features (N, F) to the nearest component of another class than ``y``."""
        wrong = self.classes != y[:, None]
        offsets = (seen.double().unsqueeze(1) - self.means) @ self.whiten.T
        return offsets.square().sum(-1).masked_fill(~wrong, torch.inf).amin(1).to(seen.dtype)


def components(features: Tensor, labels: Tensor, count: int) -> Components:
    """At most ``count`` components for each class of features (M, F) in float64, one for 8 images at most."""
    means: list[Tensor] = []
    classes: list[int] = []
    residuals: list[Tensor] = []
    for label in torch.unique(labels).tolist():
        own = features[labels == label]
        centres = _centres(own, min(count, max(1, len(own) // 8)))
        means.append(centres)
        classes += [label] * len(centres)
        residuals.append(own - centres[torch.cdist(own, centres).argmin(1)])
    spread = torch.cat(residuals)
    covariance = spread.T @ spread / len(spread)
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    level = covariance.diagonal().mean().clamp_min(1e-12)
    factor = torch.linalg.cholesky((1 - SHRINKAGE) * covariance + SHRINKAGE * level * eye)
    whiten = torch.linalg.solve_triangular(factor, eye, upper=False)
    return Components(torch.cat(means), whiten, torch.tensor(classes, device=labels.device))


def _centres(points: Tensor, count: int) -> Tensor:
    """Centres (count, F) of clusters of points (M, F): the mean first, then those farthest from all before; Lloyd."""
    centres = points.mean(0, keepdim=True)
    while len(centres) < count:
        farthest = torch.cdist(points, centres).amin(1).argmax()
        centres = torch.cat([centres, points[farthest][None]])
    for _ in range(LLOYD if count > 1 else 0):
        nearest = torch.cdist(points, centres).argmin(1)
        for number in torch.unique(nearest).tolist():
            centres[number] = points[nearest == number].mean(0)
    return centres
