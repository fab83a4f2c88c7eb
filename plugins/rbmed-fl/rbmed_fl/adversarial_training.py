"""The objective a client minimises: the model's own loss, on clean images or on attacked ones.

The attack runs in evaluation mode, as the model will be deployed, and so leaves running statistics alone; Pang et al.
2021 (arXiv 2010.00467) find that it costs no robustness and gains clean accuracy. The step that follows it is in
training mode, on the attacked batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import Generator, Tensor, nn

from rbmed_fl import option
from rbmed_fl.option import Number
from robustbench_med import Classifier, Field, Learner, Params

Objective = Callable[[Learner, Tensor, Tensor], Tensor]


def objective(adversarial: str, generator: Generator) -> Objective:
    """The loss of a batch: ``objective(...)(classifier, x, y)`` is a scalar.

    Args:
        adversarial: as in ``TrainParams``, such as ``pgd:steps=5``; ``none`` for clean images.
        generator: of the random starts, on the images' device.
    """
    hardening = read(adversarial)
    if hardening is None:
        return lambda classifier, x, y: classifier.loss(x, y)
    return partial(hardening.loss, generator)


Length = Annotated[Number, Field(gt=0, allow_inf_nan=False)]


class Hardening(Params, ABC):
    """Adversarial training against a ball around each image."""

    eps: Length = Field(4 / 255, description="Radius of the ball, in pixel values of [0, 1].")
    norm: Literal["linf", "l2"] = Field("linf", description="Norm of the ball.")
    steps: int = Field(5, ge=1, description="Gradient steps of the attack.")
    step_size: Length | None = Field(None, description="Length of a step; default 2.5 eps/steps.")

    @abstractmethod
    def loss(self, generator: Generator, classifier: Learner, x: Tensor, y: Tensor) -> Tensor:
        """The objective of a batch, a scalar: images (N, C, H, W) in [0, 1], labels (N,)."""

    def ascend(self, gain: Callable[[Tensor], Tensor], x: Tensor, start: Tensor) -> Tensor:
        """Images of the ball around ``x`` where ``gain`` is large, float32 in [0, 1].

        Args:
            gain: of images, a scalar; each term of it must depend on one image alone.
            x: centres of the balls.
            start: where to begin; projected first.
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
        """The direction of length 1 along which the loss rises most; 0 where the gradient is 0."""
        return gradient.sign() if self.norm == "linf" else gradient / _length(gradient)

    def inside(self, x: Tensor, generator: Generator) -> Tensor:
        """Points drawn uniformly from the balls around ``x``."""
        if self.norm == "linf":
            return x + self.eps * (2 * torch.rand(x.shape, generator=generator, device=x.device) - 1)
        direction = torch.randn(x.shape, generator=generator, device=x.device)
        radius = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) ** (1 / x[0].numel())
        return x + self.eps * radius * direction / _length(direction)


class PGD(Hardening):
    """The model's own loss on images attacked by projected gradient descent (Madry et al. 2018, arXiv 1706.06083)."""

    clean: Number = Field(0.0, ge=0, lt=1, description="Share of a batch that is not attacked.")

    def loss(self, generator: Generator, classifier: Learner, x: Tensor, y: Tensor) -> Tensor:
        """See `Hardening`. The attack maximises cross-entropy."""
        clean = round(self.clean * len(x))
        target, labels = x[clean:], y[clean:]
        with evaluating(classifier):
            attacked = self.ascend(
                lambda images: F.cross_entropy(classifier(images).float(), labels, reduction="sum"),
                target,
                self.inside(target, generator),
            )
        return classifier.loss(torch.cat([x[:clean], attacked]) if clean else attacked, y)


class TRADES(Hardening):
    """The model's own loss on clean images + beta KL(answer on clean || answer on attacked) (Zhang et al. 2019).

    The attack maximises the divergence, from Gaussian noise of 0.001 around the image. Reference: arXiv 1901.08573,
    where beta is 1/lambda.
    """

    beta: Number = Field(6.0, ge=0, allow_inf_nan=False, description="Weight of the divergence.")

    def loss(self, generator: Generator, classifier: Learner, x: Tensor, y: Tensor) -> Tensor:
        """See `Hardening`."""
        with evaluating(classifier):
            # Not under no_grad: autocast would keep its copies of the weights for the step, cut off from the weights.
            anchor = classifier(x).detach()
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            attacked = self.ascend(lambda images: _divergence(anchor, classifier(images)), x, x + 0.001 * noise)
        answer = classifier(x)
        # A loss of the model's own cannot be had from the answer, and costs one more pass.
        plain = type(classifier).loss is Classifier.loss
        own = F.cross_entropy(answer, y) if plain else classifier.loss(x, y)
        return own + self.beta * _divergence(answer, classifier(attacked)) / len(x)


KINDS: dict[str, type[Hardening]] = {"pgd": PGD, "trades": TRADES}


def read(text: str) -> Hardening | None:
    """The hardening that ``adversarial=TEXT`` asks for, None for ``none``.

    Raises:
        BadParameter: there is no such hardening, or not with these parameters.
    """
    return None if text == "none" else option.read("adversarial", text, KINDS)[1]


def _checked(text: str) -> str:
    read(text)
    return text


#: Text that `read` understands; anything else is refused when the parameters are made.
Adversarial = Annotated[str, AfterValidator(_checked)]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A block in evaluation mode; afterwards each part is in the mode that it was in."""
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


def _length(x: Tensor) -> Tensor:
    """L2 length of each image, shape (N, 1, 1, 1), never 0."""
    length: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return length.clamp_min(1e-12)
