"""What a library sees of the model, and what it may change of the process."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from torch import nn

from rbmed_peers import starts
from rbmed_peers.isolation import Opaque, seed_from, silenced
from robustbench_med import Stream, isolated
from robustbench_med.errors import UsageError

CPU = torch.device("cpu")


def test_logits_and_gradients_are_the_models_own(task):
    net, x, y = task(3)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    made, expected = Opaque(net, CPU)(ours), net(theirs)
    assert torch.equal(made, expected)
    for k in range(3):  # a Jacobian asks for one class after the other
        (gradient,) = torch.autograd.grad(made[:, k].sum(), ours, retain_graph=True)
        (truth,) = torch.autograd.grad(expected[:, k].sum(), theirs, retain_graph=True)
        assert torch.equal(gradient, truth)
    nn.functional.cross_entropy(made, y).backward()
    assert ours.grad is not None
    assert all(weight.grad is None for weight in net.parameters())


def test_points_outside_the_range_are_clamped_and_gradients_pass(task):
    net, x, _ = task(3)
    outside = (x * 3 - 1).requires_grad_()
    made = Opaque(net, CPU)(outside)
    assert torch.equal(made, net(outside.clamp(0, 1)))
    made.sum().backward()
    clamped = outside.detach().clamp(0, 1).requires_grad_()
    net(clamped).sum().backward()
    assert torch.equal(outside.grad, clamped.grad)


def test_what_a_library_changes_stays_without_effect(task):
    net, x, _ = task(3)
    seen = Opaque(net, CPU)
    assert not seen.training
    assert [parameter.numel() for parameter in seen.parameters()] == [0]
    assert list(seen.children()) == []
    before = net(x)
    with torch.no_grad():
        seen(x).fill_(7)
    assert net.training
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("constant", [False, True])
def test_a_model_without_a_gradient_is_refused(constant):
    class Blocked(nn.Module):
        def forward(self, x):
            weight = torch.ones(2, requires_grad=True)
            return x.detach().flatten(1)[:, :2] * (weight if constant else 1)

    x = torch.rand(2, 1, 4, 4, requires_grad=True)
    with pytest.raises(UsageError, match="gives no gradient to the images"):
        Opaque(Blocked(), CPU)(x).sum().backward()


def test_generators_are_seeded_and_put_back():
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    drawn = []

    def fail():
        logging.getLogger("some-library").setLevel(logging.DEBUG)
        drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))  # noqa: NPY002
        raise ZeroDivisionError

    for seed in (1, 1, 2):
        with pytest.raises(ZeroDivisionError), isolated(seed), silenced("some-library"):
            fail()
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert states[2] == random.getstate()
    assert logging.getLogger("some-library").level == logging.NOTSET


def test_the_seed_follows_every_stream_and_its_position():
    streams = Stream.named("attack", 0, torch.arange(4))
    seeds = [seed_from(streams), seed_from(streams[:3]), seed_from(streams.moment(1)), seed_from(streams.fork("x"))]
    assert len(set(seeds)) == 4
    assert seed_from(Stream.named("attack", 0, torch.arange(4))) == seeds[0]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_starting_points_are_of_another_class(task):
    net, x, y = task(2, n=12)
    with isolated(0):
        start, found = starts.find(Opaque(net, CPU), x, y)
    assert found.all()
    assert (net(start).argmax(1) != y).all()


def test_starting_points_come_from_the_batch_where_noise_finds_none():
    class Bright(nn.Module):  # all but all-white images are of class 0
        def forward(self, x):
            white = (x.flatten(1).amin(1) > 0.99).float()
            return torch.stack([1 - white, white], 1)

    x = torch.zeros(3, 1, 4, 4)
    x[2] = 1
    with isolated(0):
        start, found = starts.find(Opaque(Bright(), CPU), x, torch.tensor([0, 0, 0]))
        nowhere = starts.find(Opaque(Bright(), CPU), x[:2], torch.tensor([0, 0]))
    assert found.all()
    assert torch.equal(start, x[[2, 2, 2]])
    assert not nowhere[1].any()
    assert torch.equal(nowhere[0], x[:2])
