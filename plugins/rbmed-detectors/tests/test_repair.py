"""The autoencoder as a purifier: which patches it replaces, by what, and how it depends on strength and image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import robustbench_med as rbmed

PATCHES = 16


def repaired(made, x: Tensor, strength: float, rng: rbmed.Stream) -> Tensor:
    return made.purify(x, x.new_full((len(x),), strength), rng)


@pytest.mark.parametrize(("strength", "max_share", "count"), [(0, 0.5, 0), (0.5, 0.5, 4), (1, 0.5, 8), (1, 1.0, 16)])
def test_the_worst_patches_are_replaced_and_no_others(make, smooth, stream, strength, max_share, count) -> None:
    made, x = make("mae-repair", "purifier", max_share=max_share), smooth(6)
    rebuilt = made.reconstruct(x).clamp(0, 1)
    before, after, new = (made.net.split(images) for images in (x, repaired(made, x, strength, stream(6)), rebuilt))
    replaced = (after == new).all(-1)
    kept = (after == before).all(-1)
    assert replaced.sum(1).tolist() == [count] * 6
    assert (replaced | kept).all()
    errors = made.patch_errors(x, rebuilt)
    for row, chosen in zip(errors, replaced, strict=True):
        if 0 < count < PATCHES:
            assert row[chosen].min() > row[~chosen].max()


def test_the_last_patch_is_repaired_in_part(make, smooth, stream) -> None:
    made, x = make("mae-repair", "purifier", max_share=1.0), smooth(3)
    two, more, three = (repaired(made, x, s / PATCHES, stream(3)) for s in (2.0, 2.25, 3.0))
    torch.testing.assert_close(more, 0.75 * two + 0.25 * three)


def test_every_image_has_its_own_strength(make, smooth, stream) -> None:
    made, x = make("mae-repair", "purifier"), smooth(3)
    together = made.purify(x, torch.tensor([0.0, 0.4, 1.0]), stream(3))
    each = torch.cat([repaired(made, x, s, stream(3))[i : i + 1] for i, s in enumerate((0.0, 0.4, 1.0))])
    torch.testing.assert_close(together, each)
    assert torch.equal(together[0], x[0])


def test_a_planted_patch_is_taken_out(make, smooth, stream, knows_smooth) -> None:
    made, clean = make("mae-repair", "purifier", max_share=1 / PATCHES), smooth(20, seed=2)
    made.load_state_dict(knows_smooth)
    marked = clean.clone()
    marked[:, :, 4:8, 8:12] = 1 - marked[:, :, 4:8, 8:12].round()
    after = repaired(made, marked, 1.0, stream(20))
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[4:8, 8:12] = False
    assert torch.equal(after[..., outside], marked[..., outside])
    assert (after - clean).square().mean() < 0.1 * (marked - clean).square().mean()


def test_gradients_in_image_and_strength_are_exact_between_changes_of_order(make, smooth, stream) -> None:
    made = make("mae-repair", "purifier").double()
    x, strength = smooth(2).double().requires_grad_(), torch.tensor([0.3, 0.8], dtype=torch.float64).requires_grad_()
    weight = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(x: Tensor, strength: Tensor) -> Tensor:
        return (weight * made.purify(x, strength, stream(2))).sum()

    along_x, along_strength = torch.autograd.grad(value(x, strength), (x, strength))
    with torch.no_grad():
        step = 1e-6
        numeric_x = (value(x + step * way, strength) - value(x - step * way, strength)) / (2 * step)
        numeric_strength = (value(x, strength + step) - value(x, strength - step)) / (2 * step)
    torch.testing.assert_close((along_x * way).sum(), numeric_x, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(along_strength.sum(), numeric_strength, rtol=1e-5, atol=1e-7)
    assert along_strength.all()


def test_it_is_a_deterministic_differentiable_purifier_of_one_copy(make, smooth, stream) -> None:
    made, x = make("mae-repair", "purifier"), smooth(2)
    assert (made.stochastic, made.differentiable, made.votes) == (False, True, 1)
    shown = made.pictures(x, stream(2))
    assert torch.equal(shown["repaired"], repaired(made, x, 1.0, stream(2)))
    assert "reconstruction" in shown
