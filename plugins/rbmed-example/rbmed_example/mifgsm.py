"""Momentum iterative FGSM (Dong et al., CVPR 2018, arXiv 1710.06081)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.errors import BudgetExceeded


class MIFGSM(rbmed.Attack):
    """Steps of equal length along a running mean of the gradients, which carries over poor local maxima.

    Each gradient is scaled to a mean magnitude of 1 before it joins the mean, as in the paper's equation 6; the step
    is ``eps / steps`` long. Unlike the paper, which returns the last iterate, the iterate of highest loss is returned,
    image by image, because a long step can lower the loss near the edge of the ball.
    """

    class Params(rbmed.Params):
        """Parameters of `MIFGSM`."""

        steps: int = rbmed.Field(10, ge=1, description="Gradient steps.")
        decay: float = rbmed.Field(1.0, ge=0, le=1, description="Share of the running mean kept at each step.")

    def run(
        self,
        surface: rbmed.Surface,
        x: Tensor,
        y: Tensor,
        threat: rbmed.ThreatModel,
        budget: rbmed.Budget,
        rng: rbmed.Stream,
    ) -> Tensor:
        """Return adversarial images, as `robustbench_med.Attack.run` describes; deterministic, so ``rng`` is unused."""
        steps = self._steps(budget, surface.draws)
        momentum = torch.zeros_like(x)
        x_adv = best = x
        best_loss = torch.full_like(y, -torch.inf, dtype=x.dtype)
        for _ in range(steps):
            x_adv = x_adv.detach().requires_grad_()
            loss = _loss(surface, x_adv, y)
            (grad,) = torch.autograd.grad(loss.sum(), x_adv)
            best, best_loss = _higher(x_adv, loss, best, best_loss)
            momentum = self.params.decay * momentum + grad / _per_image(grad.abs().flatten(1).mean(1), x)
            x_adv = threat.project(x_adv.detach() + threat.eps / steps * _direction(momentum, threat.norm), x)
        with torch.no_grad():
            loss = _loss(surface, x_adv, y)
        return _higher(x_adv, loss, best, best_loss)[0]

    def _steps(self, budget: rbmed.Budget, draws: int) -> int:
        """As many steps as asked for and allowed; each of the surface's noise draws counts."""
        allowed = [self.params.steps]
        if budget.gradients is not None:
            allowed.append(budget.gradients // draws)
        if budget.queries is not None:
            allowed.append(budget.queries // draws - 1)  # one is kept for the last iterate
        if min(allowed) < 1:
            raise BudgetExceeded(f"{budget} does not allow a single step of {draws} draws")
        return int(min(allowed))


def _loss(surface: rbmed.Surface, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy (N,), averaged over the noise draws, so that its gradient is averaged as well (EOT)."""
    each = surface.each(x)  # (N, draws, K)
    return (
        F.cross_entropy(each.flatten(0, 1), y.repeat_interleave(each.shape[1]), reduction="none")
        .view(len(x), -1)
        .mean(1)
    )


def _higher(x_adv: Tensor, loss: Tensor, best: Tensor, best_loss: Tensor) -> tuple[Tensor, Tensor]:
    """Image by image, the one of higher loss."""
    better = loss.detach() > best_loss
    best = torch.where(better.view(-1, *[1] * (best.dim() - 1)), x_adv.detach(), best)
    return best, torch.where(better, loss.detach(), best_loss)


def _direction(step: Tensor, norm: str) -> Tensor:
    """The step of length 1 in ``norm`` that follows ``step``: its sign for Linf, its unit vector for L2."""
    if norm == "linf":
        return step.sign()
    return step / _per_image(step.flatten(1).norm(dim=1), step)


def _per_image(scale: Tensor, like: Tensor) -> Tensor:
    """(N,) shaped to divide a batch like ``like``; never zero, so an image without gradient stays where it is."""
    return scale.clamp_min(torch.finfo(like.dtype).tiny).view(-1, *[1] * (like.dim() - 1))
