"""The test on losses: against SciPy, its gradient, its masks, what it learns."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.dram import MASKS, kolmogorov_smirnov
from rbmed_detectors.features import chosen
from rbmed_detectors.vit import independent

JOB = rbmed.TrainJob()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1.5, -9.0])
def test_statistic_against_scipy(ties: bool, shift: float) -> None:
    values, sample = drawn(20, 7, seed=0) + shift, drawn(50, seed=1)
    if ties:
        values, sample = (2 * values).round() / 2, (2 * sample).round() / 2
    expected = [stats.ks_2samp(row.numpy(), sample.numpy()).statistic for row in values]
    torch.testing.assert_close(kolmogorov_smirnov(values, sample), torch.tensor(expected).float())


def test_statistic_has_a_gradient_back_to_the_sample_wherever_it_is() -> None:
    sample = drawn(50, seed=1)
    values = torch.stack([drawn(6, seed=2) + 40, drawn(6, seed=3) - 40]).requires_grad_()
    statistic = kolmogorov_smirnov(values, sample)
    assert statistic.tolist() == [1, 1]
    (gradient,) = torch.autograd.grad(statistic.sum(), values)
    assert gradient.isfinite().all()
    # Lower values lower it on the far side, higher ones on the near side.
    assert gradient[0].sum() > 1e-6
    assert gradient[1].sum() < -1e-6


def test_equal_clean_losses_do_no_harm() -> None:
    values = torch.tensor([[0.1, 0.2]], requires_grad=True)
    statistic = kolmogorov_smirnov(values, torch.full((9,), 0.15))
    assert statistic.item() == 0.5
    (gradient,) = torch.autograd.grad(statistic.sum(), values)
    assert gradient.isfinite().all()


def test_masks_are_fixed_and_hide_what_they_say() -> None:
    visible, hidden = independent(64, 8, 16)
    assert visible.shape == (8, 16)
    assert (hidden.sum(1) == 48).all()
    assert (hidden.gather(1, visible) == 0).all()
    assert len({tuple(sorted(row)) for row in visible.tolist()}) == 8
    assert torch.equal(independent(64, 3, 16)[0], visible[:3])


def test_losses_are_those_of_the_training(make, smooth, system) -> None:
    made, x = make("dram"), smooth(3)
    patches = made.net.split(x)
    for mask in (0, 5):
        seen = made.visible[mask]
        hidden = torch.tensor([place for place in range(16) if place not in seen.tolist()])
        predicted = made.net(patches, seen.expand(3, -1))
        expected = (predicted - patches)[:, hidden].square().mean((1, 2))
        torch.testing.assert_close(made.losses(x, MASKS)[:, mask], expected)
    assert made.visible.shape[1] == made.learner(system).seen


def test_clean_losses_are_kept_for_every_number_of_draws(make, split, system) -> None:
    made = make("dram", draws=2)
    facts = made.fit(split, system, JOB)
    assert made.clean.shape == (60, MASKS)
    assert made.clean.dtype == torch.float32
    assert not made.clean.requires_grad
    torch.testing.assert_close(made.clean, made.losses(split.images, MASKS))
    assert facts["mean_loss"] == pytest.approx(float(made.clean.mean()))
    assert make("dram", draws=16).state_dict().keys() == made.state_dict().keys()


def test_no_more_images_are_kept_than_needed(make, split, system, monkeypatch) -> None:
    monkeypatch.setattr("rbmed_detectors.dram.CLEAN", 10)
    made = make("dram")
    assert made.fit(split, system, JOB)["images"] == 10
    rows = chosen(60, 10, rbmed.seed_of(JOB.seed, "dram"))
    torch.testing.assert_close(made.clean, made.losses(split.images[rows], MASKS))


def test_mean_statistic_counts_in_clean_standard_deviations(make, split, system, smooth, stream) -> None:
    made, x = make("dram", statistic="mean", draws=4), smooth(5)
    made.fit(split, system, JOB)
    clean = made.clean[:, :4]
    expected = ((made.losses(x, 4) - clean.mean(0)) / clean.std(0, correction=0)).mean(1)
    torch.testing.assert_close(made.score(x, system, stream(5)), expected)
    assert made.score(split.images, system, stream(60)).mean().abs() < 1e-4


@pytest.mark.parametrize("statistic", ["ks", "mean"])
def test_noise_is_found_by_an_autoencoder_of_smooth_images(
    make, split, smooth, system, stream, knows_smooth, statistic
) -> None:
    made = make("dram", statistic=statistic)
    made.load_state_dict({**made.state_dict(), **knows_smooth})
    made.fit(split, system, JOB)
    clean = smooth(40, seed=8)
    noisy = (clean + 0.15 * drawn(40, 1, 16, 16, seed=4)).clamp(0, 1)
    scores = [made.score(x, system, stream(40)) for x in (clean, noisy)]
    assert (scores[1][:, None] > scores[0]).float().mean() > 0.95
