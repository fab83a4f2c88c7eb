"""A client's local round: augmentation, learning rate, batches."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from rbmed_fl.local_training import LocalRound, add_noise, augment, batches, learning_rate
from rbmed_fl.params import TrainParams
from rbmed_fl.states import average


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_augmentation_keeps_range_and_shape_and_depends_on_its_generator_alone():
    x = torch.rand(16, 3, 32, 32, generator=generator())
    a, b = augment(x, 1 / 16, 0.1, generator(1)), augment(x, 1 / 16, 0.1, generator(1))
    assert torch.equal(a, b)
    assert a.shape == x.shape
    assert a.dtype == x.dtype
    assert a.min() >= 0
    assert a.max() <= 1
    assert not torch.equal(a, augment(x, 1 / 16, 0.1, generator(2)))


def test_augmentation_flips_half_and_shifts_by_at_most_a_sixteenth():
    x = torch.zeros(2000, 1, 32, 32)
    x[:, :, 10, 5] = 0.8  # one bright pixel: where it lands tells flip and shift
    out = augment(x, 1 / 16, 0.0, generator())
    _, _, row, column = (out > 0.5).nonzero(as_tuple=True)
    assert len(row) == 2000
    assert set(row.tolist()) == set(range(8, 13))
    flipped = column > 15
    assert 0.45 < flipped.float().mean() < 0.55
    assert set(column[~flipped].tolist()) == set(range(3, 8))
    assert set(column[flipped].tolist()) == set(range(24, 29))
    torch.testing.assert_close(out.sum((1, 2, 3)), torch.full((2000,), 0.8))


def test_noise_is_drawn_per_image_up_to_its_bound():
    x = torch.full((500, 1, 32, 32), 0.5)
    sigma = (add_noise(x, 0.1, generator()) - x).flatten(1).std(1)
    assert sigma.max() < 0.11
    assert sigma.min() < 0.01
    assert abs(sigma.mean() - 0.05) < 0.005


def test_learning_rate_warms_up_and_falls_to_zero():
    params = TrainParams(rounds=5, local_epochs=2, lr=1.0)
    rates = [learning_rate(params, number, step, 20) for number in range(1, 6) for step in range(20)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 0.001
    assert learning_rate(TrainParams(rounds=1, local_epochs=1, lr=1.0), 1, 0, 1) == 1.0
    assert learning_rate(TrainParams(schedule="constant", lr=0.3), 4, 7, 9) == 0.3


def test_batches_are_even_and_cover_every_image_once():
    images = torch.arange(65.0).view(65, 1, 1, 1) / 65
    local_round = LocalRound("north", images, torch.arange(65), 1, generator())
    parts = list(batches(local_round, TrainParams(batch_size=32, augment=False)))
    assert [len(y) for _, y in parts] == [22, 22, 21]
    seen = torch.cat([y for _, y in parts])
    assert sorted(seen.tolist()) == list(range(65))
    assert seen.tolist() != list(range(65))
    assert torch.equal(torch.cat([x for x, _ in parts]), images[seen])


@pytest.mark.parametrize(("images", "size", "lengths"), [(1, 64, [2]), (3, 2, [2, 2]), (2, 1, [1, 1])])
def test_an_image_alone_is_taken_twice_unless_batches_of_one_are_wanted(images: int, size: int, lengths: list[int]):
    local_round = LocalRound("north", torch.rand(images, 1, 8, 8), torch.arange(images), 1, generator())
    parts = list(batches(local_round, TrainParams(batch_size=size)))
    assert [len(x) for x, _ in parts] == [len(y) for _, y in parts] == lengths
    assert {label for _, y in parts for label in y.tolist()} == set(range(images))


def test_average_is_weighted_and_leaves_integers():
    states = [
        {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([1.0, 0.0]), "n": torch.tensor(4)},
    ]
    mean = average(states, [1, 3])
    assert torch.equal(mean["w"], torch.tensor([0.75, 1.0]))
    assert mean["n"].dtype == torch.int64
    assert mean["n"] == 3
