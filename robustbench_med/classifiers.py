"""Classifiers for a data set, whatever order of classes a model answers in."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.data import DataCard
from robustbench_med.errors import BadParameter
from robustbench_med.interfaces import Classifier, Model


class Reordered(Classifier):
    """A classifier whose answers are put into the order of a data set's classes; others are left out.

    Args:
        inner: the classifier.
        order: for each class of the data set, the position of its logit.
    """

    def __init__(self, inner: Classifier, order: list[int]) -> None:
        super().__init__()
        self.inner, self.stochastic = inner, inner.stochastic
        self.personal, self.heads = (
            tuple(f"inner.{name}" for name in names) for names in (inner.personal, inner.heads)
        )
        self.order: Tensor
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of the data set's classes."""
        logits: Tensor = self.inner(x)
        return logits[:, self.order]

    def embed(self, x: Tensor) -> Tensor:
        """The features of the classifier inside."""
        return self.inner.embed(x)


def build_for(model: Model, card: DataCard) -> Classifier:
    """A fresh classifier of ``model`` for the classes, channels and size of a data set.

    Raises:
        BadParameter: the model names its classes, and some of the data set's are not among them.
    """
    if not model.classes:
        return model.build(len(card.classes), card.channels, card.size)
    if missing := [name for name in card.classes if name not in model.classes]:
        raise BadParameter(
            f"model {model.spec_name!r} answers with {', '.join(model.classes)}; data set {card.name!r} has "
            f"{', '.join(missing)} besides; name the classes in the model's order: classes=[...]"
        )
    built = model.build(len(model.classes), card.channels, card.size)
    if model.classes == card.classes:
        return built
    return Reordered(built, [model.classes.index(name) for name in card.classes])
