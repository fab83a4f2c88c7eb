"""How a client trains in a local round: plain PyTorch on tensors in memory, with separate random generators."""

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
from rbmed_fl.averaging import averaged
from rbmed_fl.params import TrainParams
from rbmed_fl.states import State
from robustbench_med import Classifier, Learner, right_answers
from robustbench_med.errors import HarnessError

#: Training accuracy is measured on at most this many images, so that it costs little compared with the training.
ACCURACY_IMAGES = 512


@dataclass(frozen=True)
class LocalRound:
    """One client's training in one round.

    Attributes:
        client: name, for messages.
        images: (N, C, H, W) in [0, 1], on the training device.
        labels: int64 (N,), of findings (N, K), on the training device.
        number: the round, from 1.
        generator: of this local round alone, on the training device.
        client_state: the client's state after its last local round, on the CPU; entries that are changed or added
            here are stored for the next one. Names under ``kept/`` are reserved, and with ``ema`` those under ``ema/``.
        config: figures the server sent with the model.
    """

    client: str
    images: Tensor
    labels: Tensor
    number: int
    generator: Generator
    client_state: State = field(default_factory=dict)
    config: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def isolated_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Run a block with seeded global generators (torch on CPU and ``device``, Python), then restore them.

    Dropout and weight initialisation draw from the global generators; the caller's sequence does not change.
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
    # At most a tenth of the training: a longer warm-up than the training would never reach the peak.
    warmup = min(steps // params.local_epochs, total // 10)
    if done < warmup:
        return params.lr * (done + 1) / warmup
    return params.lr * (1 + math.cos(math.pi * (done - warmup) / (total - warmup))) / 2


def make_optimizer(classifier: nn.Module, params: TrainParams) -> Optimizer:
    """The optimizer of one local round, over the parameters that require gradients."""
    kinds: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}
    weights = [weight for weight in classifier.parameters() if weight.requires_grad]
    return kinds[params.optimizer](weights, lr=params.lr, weight_decay=params.weight_decay, fused=True)


def batches(local_round: LocalRound, params: TrainParams) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented batches (x, y), in a new order.

    All batches have about the same size. Batch normalisation fails on one image: the only image of a client is taken
    twice, augmented differently, unless batches of one were asked for.
    """
    n, device = len(local_round.labels), local_round.labels.device
    order = torch.randperm(n, generator=local_round.generator, device=device)
    for rows in order.tensor_split(math.ceil(n / params.batch_size)):
        if len(rows) == 1 < params.batch_size:
            rows = rows.repeat(2)
        x = local_round.images[rows]
        if params.augment:
            x = augment(x, params.shift, params.jitter, local_round.generator)
        if params.noise > 0:
            x = add_noise(x, params.noise, local_round.generator)
        yield x, local_round.labels[rows]


def scheduled(local_round: LocalRound, params: TrainParams, optimizer: Optimizer) -> Iterator[tuple[Tensor, Tensor]]:
    """The augmented batches (x, y) of a local round; sets the optimizer's learning rate before each one."""
    steps = params.local_epochs * math.ceil(len(local_round.labels) / params.batch_size)
    every = chain.from_iterable(batches(local_round, params) for _ in range(params.local_epochs))
    for step, batch in enumerate(every):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(params, local_round.number, step, steps)
        yield batch


def train_epochs(
    classifier: Learner,
    local_round: LocalRound,
    params: TrainParams,
    penalty: Callable[[], Tensor] | None = None,
    loss_of: Objective | None = None,
    average: str = "ema",
) -> float:
    """Train a classifier in place on a client's images for one round; return the mean loss over its steps.

    Only parameters that require gradients are trained.

    Args:
        classifier: on the local round's device.
        local_round: the client's images.
        params: with ``adversarial``, on images attacked at every step.
        penalty: a scalar that is added to the loss of each batch.
        loss_of: the loss of a batch, instead of `rbmed_fl.adversarial_training.objective`.
        average: name of the average of the weights, where a client trains several models.

    Raises:
        HarnessError: the loss is not finite.
    """
    optimizer = make_optimizer(classifier, params)
    loss_of = loss_of or objective(params.adversarial, local_round.generator, local_round.number)
    total, steps = torch.zeros((), device=local_round.labels.device), 0
    classifier.train()
    with averaged(classifier, local_round, params, average) as follow:
        for x, y in scheduled(local_round, params, optimizer):
            with torch.autocast(x.device.type, torch.bfloat16, enabled=params.autocast):
                loss = loss_of(classifier, x, y)
            if penalty is not None:
                loss = loss + penalty()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            follow()
            total += loss.detach()
            steps += 1
    return finite(float(total) / steps, local_round, params)


def finite(loss: float, local_round: LocalRound, params: TrainParams) -> float:
    """The mean loss of a local round, unless the training diverged.

    Raises:
        HarnessError: the loss is not finite.
    """
    if not math.isfinite(loss):
        raise HarnessError(
            f"training of client {local_round.client!r} diverged in round {local_round.number}: its loss is {loss} "
            f"(lr={params.lr:g}, optimizer={params.optimizer}); a lower lr may help"
        )
    return loss


def proximal_term(classifier: Learner, anchor: Sequence[Tensor], weight: float) -> Callable[[], Tensor]:
    """The proximal term: weight / 2 times the squared distance of the trainable parameters from ``anchor``.

    Args:
        classifier: whose parameters are read at each call.
        anchor: a tensor for each of its parameters, in order.
        weight: 0 or more.
    """
    pairs = [(w, a.detach()) for w, a in zip(classifier.parameters(), anchor, strict=True) if w.requires_grad]
    return lambda: weight / 2 * torch.stack([(w - a).square().sum() for w, a in pairs]).sum()


@torch.no_grad()
def accuracy(classifier: Classifier, local_round: LocalRound, params: TrainParams) -> float:
    """Share of right answers on at most `ACCURACY_IMAGES` of the client's images, not augmented, in eval mode."""
    classifier.eval()
    images, labels = local_round.images, local_round.labels
    rows = torch.arange(0, len(labels), math.ceil(len(labels) / ACCURACY_IMAGES), device=labels.device)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=params.autocast):
        parts = torch.split(rows, params.batch_size)
        right = torch.cat([right_answers(classifier(images[part]), labels[part]) for part in parts])
    return float(right.double().mean())


def augment(x: Tensor, shift: float, jitter: float, generator: Generator) -> Tensor:
    """Flip, shift and change brightness and contrast of each image on its own.

    Args:
        x: images (N, C, H, W) in [0, 1].
        shift: largest shift, as a share of the side.
        jitter: largest relative change of contrast, and largest absolute change of brightness.
        generator: on the device of ``x``.

    Returns:
        Tensor like ``x``, in [0, 1]. Shifts repeat the border.
    """
    n, _, height, width = x.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, 1, generator=generator, device=x.device) * (high - low) + low

    def source(side: int) -> Tensor:
        reach = round(side * shift)
        moved = torch.randint(-reach, reach + 1, (n, 1), generator=generator, device=x.device)
        return (torch.arange(side, device=x.device) + moved).clamp(0, side - 1)

    rows, columns = source(height), source(width)
    columns = torch.where(uniform(0, 1) < 0.5, width - 1 - columns, columns)
    # One gather for both: the channel axis moves last because it is between two index tensors.
    image = torch.arange(n, device=x.device)[:, None, None]
    x = x[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)

    if not jitter:
        return x
    contrast, brightness = (v[:, :, None, None] for v in (uniform(1 - jitter, 1 + jitter), uniform(-jitter, jitter)))
    mean = x.mean((1, 2, 3), keepdim=True)
    return ((x - mean) * contrast + mean + brightness).clamp(0, 1)


def add_noise(x: Tensor, largest: float, generator: Generator) -> Tensor:
    """Add Gaussian noise to images (N, C, H, W) in [0, 1], its sigma drawn per image from [0, ``largest``]."""
    sigma = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) * largest
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return (x + noise * sigma).clamp(0, 1)
