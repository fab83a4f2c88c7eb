"""Streams: numbers depend on image and purpose, never on the batch."""

from __future__ import annotations

import torch
from scipy import stats

from robustbench_med.interfaces.random import Stream, seed_of

PINNED = [0.2357215285, 0.6703537107, 0.1265479326]


def stream(name: str = "a", n: int = 64, seed: int = 0) -> Stream:
    return Stream.named(name, seed, torch.arange(n))


def test_normal_and_uniform_have_the_right_distribution() -> None:
    assert stats.kstest(stream().normal((64, 1000)).flatten().numpy(), "norm").pvalue > 0.001
    assert stats.kstest(stream().uniform((64, 1000)).flatten().numpy(), "uniform").pvalue > 0.001


def test_images_calls_names_and_seeds_are_uncorrelated() -> None:
    first = stream()
    samples = [
        first.normal((64, 4096)),
        first.normal((64, 4096)),
        stream("b").normal((64, 4096)),
        stream(seed=1).normal((64, 4096)),
        stream().fork("x").normal((64, 4096)),
        stream().moment(3).normal((64, 4096)),
    ]
    rows = torch.cat(samples)
    correlation = rows @ rows.T / 4096
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() < 6 / 4096**0.5


def test_numbers_do_not_depend_on_the_batch() -> None:
    whole = stream().normal((64, 7))
    index = torch.tensor([5, 60, 3])
    assert torch.equal(stream()[index].normal((3, 7)), whole[index])
    assert torch.equal(Stream.named("a", 0, index).normal((3, 7)), whole[index])


def test_draws_are_independent_and_the_first_is_the_image_itself() -> None:
    plain = stream(n=4).normal((4, 4096))
    many = stream(n=4).repeat(3).normal((12, 4096))
    assert torch.equal(many[::3], plain)
    correlation = many @ many.T / 4096
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() < 0.1


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    stream().normal((64, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_of_is_stable() -> None:
    assert seed_of(0, "attack") == seed_of(0, "attack") != seed_of(0, "defense")
    assert seed_of("ab", "c") != seed_of("a", "bc")
    # Pinned: a change here changes every published number.
    assert torch.allclose(
        Stream.named("scoring", 7, torch.tensor([11])).uniform((1, 3)),
        torch.tensor([PINNED]),
    )
