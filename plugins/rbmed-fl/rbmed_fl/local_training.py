"""How a client trains in its turn: plain PyTorch on tensors in memory, with random numbers of its own."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from rbmed_fl.adversarial_training import Objective, objective
from rbmed_fl.augment import add_noise, augment
from rbmed_fl.params import TrainParams
from rbmed_fl.states import State
from robustbench_med import Classifier, Learner
from robustbench_med.errors import HarnessError

#: Training accuracy is measured on at most this many images, so that it costs little beside the training.
ACCURACY_IMAGES = 512


@dataclass(frozen=True)
class Turn:
    """One client's turn in one round.

    Attributes:
        client: name, for messages.
        images: (N, C, H, W) in [0, 1], on the training device.
        labels: int64 (N,), on the training device.
        number: the round, from 1.
        generator: this turn's own, on the training device.
        memory: what the client remembers from its last turn, on the CPU; change it to remember something else. Names
            under ``kept/`` belong to the base.
        config: figures the server sent with the model.
    """

    client: str
    images: Tensor
    labels: Tensor
    number: int
    generator: Generator
    memory: State = field(default_factory=dict)
    config: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Run a block with seeded global generators (torch on CPU and ``device``, Python), then put them back.

    Dropout and weight initialisation draw from the global generators; whoever called us must not notice.
    """
    python = random.getstate()
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        random.seed(seed)
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)


def learning_rate(params: TrainParams, number: int, step: int, steps: int) -> float:
    """Learning rate of ``step`` (from 0) of the ``steps`` in round ``number`` (from 1)."""
    if params.schedule == "constant":
        return params.lr
    done, total = (number - 1) * steps + step, params.rounds * steps
    # A tenth of very short trainings: a warm-up that outlasts them would never reach the peak.
    warmup = min(steps // params.local_epochs, total // 10)
    if done < warmup:
        return params.lr * (done + 1) / warmup
    return params.lr * (1 + math.cos(math.pi * (done - warmup) / (total - warmup))) / 2


def make_optimizer(classifier: nn.Module, params: TrainParams) -> Optimizer:
    """The optimizer of one turn, over the parameters that want gradients."""
    kinds: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}
    weights = [weight for weight in classifier.parameters() if weight.requires_grad]
    return kinds[params.optimizer](weights, lr=params.lr, weight_decay=params.weight_decay, fused=True)


def batches(turn: Turn, params: TrainParams) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented batches (x, y), in fresh order.

    The batches are even, not full with a rest: batch normalisation fails on a rest of one image.
    """
    n, device = len(turn.labels), turn.labels.device
    order = torch.randperm(n, generator=turn.generator, device=device)
    for rows in order.tensor_split(math.ceil(n / params.batch_size)):
        x = turn.images[rows]
        if params.augment:
            x = augment(x, params.shift, params.jitter, turn.generator)
        if params.noise > 0:
            x = add_noise(x, params.noise, turn.generator)
        yield x, turn.labels[rows]


def scheduled(turn: Turn, params: TrainParams, optimizer: Optimizer) -> Iterator[tuple[Tensor, Tensor]]:
    """The augmented batches (x, y) of a whole turn; the optimizer has the learning rate of each when it comes."""
    steps = params.local_epochs * math.ceil(len(turn.labels) / params.batch_size)
    every = chain.from_iterable(batches(turn, params) for _ in range(params.local_epochs))
    for step, batch in enumerate(every):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(params, turn.number, step, steps)
        yield batch


def train_epochs(
    classifier: Learner,
    turn: Turn,
    params: TrainParams,
    penalty: Callable[[], Tensor] | None = None,
    loss_of: Objective | None = None,
) -> float:
    """Train a classifier in place on a client's images for one round; return the mean loss over its steps.

    Only parameters that want gradients are trained.

    Args:
        classifier: on the turn's device.
        turn: whose images.
        params: how; with ``adversarial`` on images attacked at every step.
        penalty: a scalar that is added to the loss of each batch.
        loss_of: the loss of a batch, instead of `rbmed_fl.adversarial_training.objective`.

    Raises:
        HarnessError: the loss is not finite.
    """
    optimizer, loss_of = make_optimizer(classifier, params), loss_of or objective(params.adversarial, turn.generator)
    total, steps = torch.zeros((), device=turn.labels.device), 0
    classifier.train()
    for x, y in scheduled(turn, params, optimizer):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=params.autocast):
            loss = loss_of(classifier, x, y)
        if penalty is not None:
            loss = loss + penalty()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        total += loss.detach()
        steps += 1
    return finite(float(total) / steps, turn, params)


def finite(loss: float, turn: Turn, params: TrainParams) -> float:
    """The mean loss of a turn, unless the training diverged.

    Raises:
        HarnessError: the loss is not finite.
    """
    if not math.isfinite(loss):
        raise HarnessError(
            f"training of client {turn.client!r} diverged in round {turn.number}: its loss is {loss} "
            f"(lr={params.lr:g}, optimizer={params.optimizer}); a lower lr may help"
        )
    return loss


def tether(classifier: Learner, anchor: Sequence[Tensor], weight: float) -> Callable[[], Tensor]:
    """A penalty: weight / 2 times the squared distance of the trainable parameters from where ``anchor`` has them.

    Args:
        classifier: whose distance counts, at the time of the call.
        anchor: a tensor for each of its parameters, in order.
        weight: 0 or more.
    """
    pairs = [(w, a.detach()) for w, a in zip(classifier.parameters(), anchor, strict=True) if w.requires_grad]
    return lambda: weight / 2 * torch.stack([(w - a).square().sum() for w, a in pairs]).sum()


@torch.no_grad()
def accuracy(classifier: Classifier, turn: Turn, params: TrainParams) -> float:
    """Share of right answers on at most `ACCURACY_IMAGES` of the client's images, not augmented, in eval mode."""
    classifier.eval()
    rows = torch.arange(0, len(turn.labels), math.ceil(len(turn.labels) / ACCURACY_IMAGES), device=turn.labels.device)
    with torch.autocast(turn.images.device.type, torch.bfloat16, enabled=params.autocast):
        answers = torch.cat([classifier(turn.images[part]).argmax(1) for part in torch.split(rows, params.batch_size)])
    return float((answers == turn.labels[rows]).double().mean())
