"""The objective a client minimises: the model's own loss, on clean or on attacked images.

The attack runs in evaluation mode, as the model will be deployed, and does not change running statistics; Pang et al.
2021 (arXiv 2010.00467) find that this costs no robustness and improves clean accuracy. The optimizer step that follows
is in training mode, on the attacked batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Generator, Tensor, nn

from rbmed_fl.option import checked
from robustbench_med import Classifier, Field, Learner, Number, Params, read_choice, training_loss

Objective = Callable[[Learner, Tensor, Tensor], Tensor]


def objective(adversarial: str, generator: Generator, number: int) -> Objective:
    """The loss of a batch: ``objective(...)(classifier, x, y)`` is a scalar.

    Args:
        adversarial: as in ``TrainParams``, such as ``pgd:steps=5``; ``none`` for clean images.
        generator: of the random starts, on the images' device.
        number: the round, from 1.
    """
    training = parse_adversarial(adversarial)
    if training is None or number <= training.warmup:
        return lambda classifier, x, y: classifier.loss(x, y)
    return partial(training.loss, generator)


Length = Annotated[Number, Field(gt=0, allow_inf_nan=False)]


class AdversarialTraining(Params, ABC):
    """Adversarial training against a ball around each image."""

    eps: Length = Field(4 / 255, description="Radius of the ball, in pixel values of [0, 1].")
    norm: Literal["linf", "l2"] = Field("linf", description="Norm of the ball.")
    steps: int = Field(5, ge=1, description="Gradient steps of the attack.")
    step_size: Length | None = Field(None, description="Length of a step; default 2.5 eps/steps.")
    # From random weights, training on attacked images can end in one answer for every image where lesions are faint.
    warmup: int = Field(0, ge=0, description="Rounds on clean images before it begins.")

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(f"eps={self.eps:g} is too large: images are in [0, 1]; did you mean {self.eps:g}/255?")
        return self

    @abstractmethod
    def loss(self, generator: Generator, classifier: Learner, x: Tensor, y: Tensor) -> Tensor:
        """The objective of a batch, a scalar: images (N, C, H, W) in [0, 1], labels (N,) or (N, K)."""

    def attack(self, gain: Callable[[Tensor], Tensor], x: Tensor, start: Tensor) -> Tensor:
        """Images in the ball around ``x`` that maximise ``gain``, by projected gradient ascent; float32 in [0, 1].

        Args:
            gain: maps images to a scalar, a sum of terms that each depend on one image only.
            x: centres of the balls.
            start: first images; projected before the first step.
        """
        size = self.step_size or 2.5 * self.eps / self.steps
        attacked = self.project(start, x)
        for _ in range(self.steps):
            attacked.requires_grad_()
            (gradient,) = torch.autograd.grad(gain(attacked), attacked)
            attacked = self.project(attacked.detach() + size * self.steepest(gradient), x)
        return attacked

    def project(self, attacked: Tensor, x: Tensor) -> Tensor:
        """The point of the ball around ``x`` nearest to ``attacked``, then clamped to [0, 1]."""
        if self.norm == "linf":
            return attacked.clamp(x - self.eps, x + self.eps).clamp_(0, 1)
        offset = attacked - x
        return (x + offset * (self.eps / _length(offset)).clamp(max=1)).clamp_(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit length in which the loss increases most; 0 where the gradient is 0."""
        return gradient.sign() if self.norm == "linf" else gradient / _length(gradient)

    def random_start(self, x: Tensor, generator: Generator) -> Tensor:
        """Points drawn uniformly from the balls around ``x``."""
        if self.norm == "linf":
            return x + self.eps * (2 * torch.rand(x.shape, generator=generator, device=x.device) - 1)
        direction = torch.randn(x.shape, generator=generator, device=x.device)
        radius = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) ** (1 / x[0].numel())
        return x + self.eps * radius * direction / _length(direction)


class PGDTraining(AdversarialTraining):
    """The model's own loss on images attacked by projected gradient descent (Madry et al. 2018, arXiv 1706.06083)."""

    clean: Number = Field(0.0, ge=0, lt=1, description="Share of a batch that is not attacked.")

    def loss(self, generator: Generator, classifier: Learner, x: Tensor, y: Tensor) -> Tensor:
        """See `AdversarialTraining`. The attack maximises the loss of the answers."""
        clean = round(self.clean * len(x))
        target, labels = x[clean:], y[clean:]
        with eval_mode(classifier):
            attacked = self.attack(
                lambda images: training_loss(classifier(images).float(), labels, "sum"),
                target,
                self.random_start(target, generator),
            )
        return classifier.loss(torch.cat([x[:clean], attacked]) if clean else attacked, y)


class TRADESTraining(AdversarialTraining):
    """The model's own loss on clean images + beta KL(output on clean || output on attacked) (Zhang et al. 2019).

    The attack maximises the divergence, from Gaussian noise of 0.001 around the image. Reference: arXiv 1901.08573,
    where beta is 1/lambda.
    """

    beta: Number = Field(6.0, ge=0, allow_inf_nan=False, description="Weight of the divergence.")

    def loss(self, generator: Generator, classifier: Learner, x: Tensor, y: Tensor) -> Tensor:
        """See `AdversarialTraining`."""
        apart = _divergence if y.dim() == 1 else _divergence_of_findings
        with eval_mode(classifier):
            # Not under no_grad: autocast would cache copies of the weights without gradients for the step.
            anchor = classifier(x).detach()
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            attacked = self.attack(lambda images: apart(anchor, classifier(images)), x, x + 0.001 * noise)
        logits = classifier(x)
        # A loss that the model defines itself cannot be computed from the logits: one more forward pass.
        plain = type(classifier).loss is Classifier.loss
        own = training_loss(logits, y) if plain else classifier.loss(x, y)
        return own + self.beta * apart(logits, classifier(attacked)) / len(x)


KINDS: dict[str, type[AdversarialTraining]] = {"pgd": PGDTraining, "trades": TRADESTraining}


def parse_adversarial(text: str) -> AdversarialTraining | None:
    """The adversarial training of ``adversarial=TEXT``; None for ``none``.

    Raises:
        BadParameter: the name or a parameter is not valid.
    """
    return None if text == "none" else read_choice("adversarial", text, KINDS, ("none",))[1]


#: Text that `parse_adversarial` accepts; checked when the parameters are created.
Adversarial = Annotated[str, checked(parse_adversarial)]


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """A block in evaluation mode; afterwards each module is in its previous mode."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Sum over the images of KL(p || q), from logits (N, K)."""
    return F.kl_div(q.float().log_softmax(1), p.float().log_softmax(1), reduction="sum", log_target=True)


def _divergence_of_findings(p: Tensor, q: Tensor) -> Tensor:
    """The same for logits (N, K) of findings, each of which is there or not: the mean over the findings."""
    pairs = [torch.stack([torch.zeros_like(each), each], -1).flatten(0, 1) for each in (p, q)]
    return _divergence(*pairs) / p.shape[1]


def _length(x: Tensor) -> Tensor:
    """L2 length of each image, shape (N, 1, 1, 1), never 0."""
    length: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return length.clamp_min(1e-12)
