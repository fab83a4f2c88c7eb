"""APFL: a mixture of a personal and the global model (Deng et al. 2020, arXiv 2003.13461).

Sent and averaged: the global model w, bit for bit that of FedAvg. Stays: the weights v, the share alpha and the batch
norm statistics of the mixture alpha * v + (1 - alpha) * w, which is what the client deploys.

In each step of a turn, w follows the gradient of its own loss, and v that of the mixture's loss, d/dv = alpha * d/dmix,
both on one batch and with one learning rate; in the first turn v starts from w. With ``adaptive``, alpha moves by
-lr * <v - w, d/dmix> in every step and stays within [0, 1]. w and the mixture see the same batches, augmentation and
dropout: those of a turn of FedAvg. The mixture's batch-norm statistics come from its own forward passes, since a mean
of two models' statistics is not what the mean of the models needs. Deployed is v with the w of the last merging.

alpha=1 without ``adaptive`` is bit for bit the strategy ``local``; alpha=0 is FedAvg with each client's own statistics.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rbmed_fl.adversarial_training import Objective, objective
from rbmed_fl.federation import Federation
from rbmed_fl.local_training import Turn, finite, make_optimizer, scheduled
from rbmed_fl.params import TrainParams
from rbmed_fl.states import State, put, to_cpu, under
from robustbench_med import Field, Learner


class APFL(Federation):
    """FedAvg, and for each client a mixture of its own weights with the global ones."""

    class Params(TrainParams):
        """Parameters of `APFL`."""

        alpha: float = Field(0.1, ge=0, le=1, description="Share of the personal weights; with adaptive, the first.")
        adaptive: bool = Field(
            False, description="Each client learns its alpha, on training images: it drifts towards what fits these."
        )

    def fit(self, classifier: Learner, turn: Turn) -> float:
        """Train global and personal weights side by side; return the mean loss of the mixture."""
        params, device = self.params, turn.images.device
        own = copy.deepcopy(classifier)
        own.load_state_dict(own.state_dict() | under("own", turn.memory) | under("mixture", turn.memory))
        alpha = turn.memory.get("alpha", torch.tensor(params.alpha)).to(device)
        optimizer = make_optimizer(nn.ModuleList([classifier, own]), params)
        again = turn.generator.clone_state()
        loss_of, own_loss_of = (objective(params.adversarial, source) for source in (turn.generator, again))
        total, steps = torch.zeros((), device=device), 0
        classifier.train()
        own.train()
        for x, y in scheduled(turn, params, optimizer):
            # The mixture goes first, with the random numbers that then come again for the global model.
            again.set_state(turn.generator.get_state())
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                v = _mix(own, classifier, alpha)
                total += _gradients(own, own_loss_of, x, y, params)
                slope = _unmix(own, classifier, alpha, v)
            _gradients(classifier, loss_of, x, y, params)
            optimizer.step()
            if params.adaptive:
                alpha = (alpha - optimizer.param_groups[0]["lr"] * slope).clamp(0, 1)
            steps += 1
        state, weights = to_cpu(own.state_dict()), dict(own.named_parameters(remove_duplicate=False))
        turn.memory.update(put("own", {name: value for name, value in state.items() if name in weights}))
        turn.memory.update(put("mixture", {name: value for name, value in state.items() if name not in weights}))
        turn.memory["alpha"] = alpha.cpu()
        return finite(float(total) / steps, turn, params)

    def personal(self, shared: State, memory: State) -> State:
        """The mixture of the client's weights with those of ``shared``, and the mixture's statistics."""
        mixture = {name: shared[name].lerp(v, memory["alpha"]) for name, v in under("own", memory).items()}
        return mixture | under("mixture", memory)


def _gradients(model: Learner, loss_of: Objective, x: Tensor, y: Tensor, params: TrainParams) -> Tensor:
    """Leave the gradients of a batch's loss in the model; return the loss."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=params.autocast):
        loss = loss_of(model, x, y)
    model.zero_grad()
    torch.autograd.backward(loss)
    return loss.detach()


@torch.no_grad()
def _mix(own: Learner, other: Learner, alpha: Tensor) -> list[Tensor]:
    """Turn ``own`` from the personal weights v into the mixture; return v."""
    before = [v.clone() for v in own.parameters()]
    for v, w in zip(own.parameters(), other.parameters(), strict=True):
        v.copy_(w.lerp(v, alpha))
    return before


@torch.no_grad()
def _unmix(own: Learner, other: Learner, alpha: Tensor, before: list[Tensor]) -> Tensor:
    """Turn ``own`` back, its gradients from those by the mixture to those by v; return the gradient by alpha."""
    slope = torch.zeros_like(alpha)
    for v, w, value in zip(own.parameters(), other.parameters(), before, strict=True):
        v.copy_(value)
        if v.grad is not None:
            slope += ((v - w) * v.grad).sum()
            v.grad *= alpha
    return slope
