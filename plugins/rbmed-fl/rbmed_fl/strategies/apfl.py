"""APFL: a mixture of a personal and the global model (Deng et al. 2020, arXiv 2003.13461).

Sent and averaged: the global model w, bit for bit that of FedAvg. Stays: the weights v, the share alpha and the batch
norm statistics of the mixture alpha * v + (1 - alpha) * w, which is what the client deploys.

In each step of a local round, w follows the gradient of its own loss, and v that of the mixture's loss, d/dv = alpha *
d/dmix, both on one batch and with one learning rate; in the first local round v starts from w. With ``adaptive``, alpha
moves by -lr * <v - w, d/dmix> in every step and stays within [0, 1]. w and the mixture see the same batches,
augmentation and dropout: those of a local round of FedAvg. The mixture's batch-norm statistics come from its own
forward passes, because the mean of two models' statistics is not that of their mean. Deployed is v with the w of the
last aggregation.

alpha=1 without ``adaptive`` is bit for bit the strategy ``local``; alpha=0 is FedAvg with each client's own statistics.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rbmed_fl.adversarial_training import Objective, objective
from rbmed_fl.averaging import averaged
from rbmed_fl.federation import FederatedStrategy
from rbmed_fl.local_training import LocalRound, finite, make_optimizer, scheduled
from rbmed_fl.params import TrainParams
from rbmed_fl.states import State, add_prefix, strip_prefix, to_cpu
from robustbench_med import Field, Learner


class APFL(FederatedStrategy):
    """FedAvg, and for each client a mixture of its own weights with the global ones."""

    class Params(TrainParams):
        alpha: float = Field(0.1, ge=0, le=1, description="Share of the personal weights; with adaptive, the first.")
        adaptive: bool = Field(False, description="Each client learns its alpha, on training images, to which it fits.")

    def fit(self, classifier: Learner, local_round: LocalRound) -> float:
        """Train global and personal weights together; return the mean loss of the mixture."""
        params, device = self.params, local_round.images.device
        own = copy.deepcopy(classifier)
        own.load_state_dict(
            own.state_dict()
            | strip_prefix("own", local_round.client_state)
            | strip_prefix("mixture", local_round.client_state)
        )
        alpha = local_round.client_state.get("alpha", torch.tensor(params.alpha)).to(device)
        both = nn.ModuleList([classifier, own])
        optimizer = make_optimizer(both, params)
        again = local_round.generator.clone_state()
        loss_of, own_loss_of = (
            objective(params.adversarial, source, local_round.number) for source in (local_round.generator, again)
        )
        total, steps = torch.zeros((), device=device), 0
        classifier.train()
        own.train()
        with averaged(both, local_round, params) as follow:
            for x, y in scheduled(local_round, params, optimizer):
                # The mixture first, with the random numbers that the global model then uses again.
                again.set_state(local_round.generator.get_state())
                with torch.random.fork_rng([device] if device.type == "cuda" else []):
                    v = _mix(own, classifier, alpha)
                    total += _gradients(own, own_loss_of, x, y, params)
                    slope = _unmix(own, classifier, alpha, v)
                _gradients(classifier, loss_of, x, y, params)
                optimizer.step()
                follow()
                if params.adaptive:
                    alpha = (alpha - optimizer.param_groups[0]["lr"] * slope).clamp(0, 1)
                steps += 1
        state, weights = to_cpu(own.state_dict()), dict(own.named_parameters(remove_duplicate=False))
        local_round.client_state.update(
            add_prefix("own", {name: value for name, value in state.items() if name in weights})
        )
        local_round.client_state.update(
            add_prefix("mixture", {name: value for name, value in state.items() if name not in weights})
        )
        local_round.client_state["alpha"] = alpha.cpu()
        return finite(float(total) / steps, local_round, params)

    def personal(self, shared: State, client_state: State) -> State:
        """The mixture of the client's weights with those of ``shared``, and the mixture's statistics."""
        mixture = {
            name: shared[name].lerp(v, client_state["alpha"]) for name, v in strip_prefix("own", client_state).items()
        }
        return mixture | strip_prefix("mixture", client_state)


def _gradients(model: Learner, loss_of: Objective, x: Tensor, y: Tensor, params: TrainParams) -> Tensor:
    """Set the model's gradients to those of a batch's loss; return the loss."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=params.autocast):
        loss = loss_of(model, x, y)
    model.zero_grad()
    torch.autograd.backward(loss)
    return loss.detach()


@torch.no_grad()
def _mix(own: Learner, other: Learner, alpha: Tensor) -> list[Tensor]:
    """Change ``own`` from the personal weights v to the mixture; return v."""
    before = [v.clone() for v in own.parameters()]
    for v, w in zip(own.parameters(), other.parameters(), strict=True):
        v.copy_(w.lerp(v, alpha))
    return before


@torch.no_grad()
def _unmix(own: Learner, other: Learner, alpha: Tensor, before: list[Tensor]) -> Tensor:
    """Change ``own`` back to v and its gradients to those with respect to v; return the gradient of alpha."""
    slope = torch.zeros_like(alpha)
    for v, w, value in zip(own.parameters(), other.parameters(), before, strict=True):
        v.copy_(value)
        if v.grad is not None:
            slope += ((v - w) * v.grad).sum()
            v.grad *= alpha
    return slope
