"""Averages of weights over steps: by hand, in the limit, and after an interruption."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rbmed_fl.averaging import WeightAverage
from rbmed_fl.strategies.adaptive import FedAdam, FedYogi
from rbmed_fl.strategies.apfl import APFL
from rbmed_fl.strategies.bounds import Centralized, LocalOnly
from rbmed_fl.strategies.ditto import Ditto
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedavgm import FedAvgM
from rbmed_fl.strategies.fedem import FedEM
from rbmed_fl.strategies.fedmoe import FedMoE
from rbmed_fl.strategies.fedrep import FedRep
from robustbench_med import Learner, Split, TrainJob
from robustbench_med.errors import UsageError

EVERY = pytest.mark.parametrize("strategy", [FedAvg, FedMoE, LocalOnly, Centralized, FedEM, FedRep, Ditto, APFL])
PARAMS = {"rounds": 3, "local_epochs": 2, "batch_size": 8, "noise": 0.1}
PLAIN = {"optimizer": "sgd", "lr": 1.0, "schedule": "constant", "weight_decay": 0, "augment": False}


class Slope(Learner):
    """A weight that goes up by the mean of the images in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.weight * x.mean()


def bright(value: float, n: int) -> Split:
    return Split(torch.full((n, 1, 2, 2), value), torch.zeros(n).long(), tuple(map(str, range(n))), ("a",) * n)


def trained(strategy, build, clients, job=None, **params):
    return strategy(strategy.Params(**params)).train(build, clients, job or TrainJob())


def same_result(a, b, **tolerance) -> None:
    torch.testing.assert_close(a.shared, b.shared, **tolerance)
    torch.testing.assert_close(a.personal, b.personal, **tolerance)


def test_the_average_of_two_known_steps():
    model = nn.BatchNorm1d(1, affine=False)
    average = WeightAverage(model, 0.1)
    for value in (8.0, 4.0):
        model.running_mean.fill_(value)
        average.update_parameters(model)
    assert average.module.running_mean.item() == pytest.approx(0.1 * 8 + 0.9 * 4)  # buffers count as weights do


@pytest.mark.parametrize(
    ("ema", "wanted"),
    [
        (0.1, 0.1 * (0.1 * (0.1 * 0.5 + 0.9 * 1.0) + 0.9 * 1.5) + 0.9 * 2.0),
        # At first the decay is lower: 2/11, 3/12, 4/13 for the second, third and fourth step.
        (0.999, (4 * ((3 * ((2 * 0.5 + 9 * 1.0) / 11) + 9 * 1.5) / 12) + 9 * 2.0) / 13),
    ],
)
def test_the_steps_of_every_round_count(ema, wanted):
    """Two rounds of two steps: the weight is 0.5, 1, 1.5 and 2 after them."""
    federated = trained(FedAvg, Slope, {"a": bright(0.5, 6)}, ema=ema, rounds=2, local_epochs=2, **PLAIN)
    assert federated.shared["weight"].item() == pytest.approx(wanted)
    last = trained(FedAvg, Slope, {"a": bright(0.5, 6)}, rounds=2, local_epochs=2, **PLAIN)
    assert last.shared["weight"].item() == 2


def test_clients_averages_are_merged_by_their_images():
    """The first steps end at 0.25 and 0.5; merged by one image and three, 0.4375; the second steps go on from there."""
    clients = {"a": bright(0.25, 1), "b": bright(0.5, 3)}
    federated = trained(FedAvg, Slope, clients, ema=0.1, rounds=2, local_epochs=1, **PLAIN)
    a, b = (0.1 * slope + 0.9 * (0.4375 + slope) for slope in (0.25, 0.5))
    assert federated.shared["weight"].item() == pytest.approx((a + 3 * b) / 4)


@EVERY
def test_without_memory_it_is_the_last_weights(strategy, mixture, clients):
    last = trained(strategy, mixture, clients, **PARAMS | {"rounds": 2})
    same_result(trained(strategy, mixture, clients, ema=1e-12, **PARAMS | {"rounds": 2}), last, atol=1e-5, rtol=0)


class Stop:
    """Progress that interrupts after some local rounds."""

    def __init__(self, after: int) -> None:
        self.after = after

    def task(self, description: str, total: int):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.after -= bool(note)
        if not self.after:
            raise KeyboardInterrupt


@EVERY
def test_killed_training_resumes_bit_identical(strategy, mixture, clients, tmp_path):
    params = PARAMS | {"ema": 0.9}
    undisturbed = trained(strategy, mixture, clients, **params)
    stop = Stop(2 if strategy is Centralized else 5)  # in the second round of most
    with pytest.raises(KeyboardInterrupt):
        trained(strategy, mixture, clients, TrainJob(progress=stop, checkpoints=tmp_path), **params)
    resumed = trained(strategy, mixture, clients, TrainJob(checkpoints=tmp_path), **params)
    same_result(resumed, undisturbed, atol=0, rtol=0)
    assert any(
        not torch.equal(value, undisturbed.shared[name])
        for name, value in trained(strategy, mixture, clients, **PARAMS).shared.items()
    )


@pytest.mark.parametrize("strategy", [FedAvgM, FedAdam, FedYogi])
def test_a_server_that_takes_a_step_of_its_own_refuses_it(strategy):
    with pytest.raises(UsageError, match=rf"strategy {strategy.__name__} takes a step on the server .*such as fedavg"):
        strategy(strategy.Params(ema=0.9))
