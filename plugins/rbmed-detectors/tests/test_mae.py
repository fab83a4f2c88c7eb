"""The masked autoencoder as a detector: masks, reconstruction, scores, what it learns."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.mae import MAEDetectorParams, pooled
from rbmed_detectors.vit import complementary
from robustbench_med.errors import BadParameter

SIZE, PATCH = 16, 4


def auroc(clean: Tensor, attacked: Tensor) -> float:
    """Chance that an attacked image scores higher than a clean one."""
    return float((attacked[:, None] > clean).float().mean())


def planted(x: Tensor, size: float) -> Tensor:
    """The images with a checkerboard of amplitude ``size`` in the patch of row 1, column 2."""
    board = ((torch.arange(PATCH)[:, None] + torch.arange(PATCH)) % 2 * 2 - 1) * size
    marked = x.clone()
    marked[:, :, 4:8, 8:12] += board
    return marked.clamp(0, 1)


@pytest.mark.parametrize(("passes", "ratio"), [(4, 0.75), (4, 0.25), (2, 0.5), (3, 0.5), (5, 0.9)])
@pytest.mark.parametrize("sets", [1, 3])
def test_masks_hide_every_patch_about_equally_often(passes: int, ratio: float, sets: int) -> None:
    visible, hidden = complementary(64, passes, ratio, sets)
    assert visible.shape == (sets * passes, 64 - math.ceil(64 * ratio))
    assert (hidden.gather(1, visible) == 0).all()
    assert (hidden.sum(1) + visible.shape[1] == 64).all()
    for one in hidden.split(passes):
        assert one.sum(0).min() >= 1
        assert one.sum(0).max() - one.sum(0).min() <= 1
    assert torch.equal(complementary(64, passes, ratio)[0], visible[:passes])


def test_sets_of_masks_differ() -> None:
    visible, _ = complementary(64, 2, 0.5, sets=2)
    first, *_, last = (set(row.tolist()) for row in visible)
    assert first != last


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least 4 passes"):
        MAEDetectorParams(passes=3, score_mask_ratio=0.25)
    with pytest.raises(ValidationError, match="heads=3 must divide"):
        MAEDetectorParams(heads=3)


def test_an_image_side_that_patches_do_not_tile_is_refused(make) -> None:
    with pytest.raises(BadParameter, match="mae: patch=4 must divide the image side, 18 px"):
        make("mae").build(1, 18)


def test_splitting_and_joining_patches_are_inverse(make, smooth) -> None:
    net, x = make("mae").net, smooth(3)
    assert net.split(x).shape == (3, 16, 16)
    assert torch.equal(net.split(x)[0, 1], x[0, 0, :4, 4:8].flatten())
    assert torch.equal(net.join(net.split(x), SIZE), x)


@pytest.mark.parametrize(("ratio", "masks"), [(0.75, 1), (0.25, 1), (0.5, 3)])
def test_no_patch_sees_itself(make, smooth, ratio: float, masks: int) -> None:
    made, x = make("mae", score_mask_ratio=ratio, masks=masks), smooth(1).requires_grad_()
    made.reconstruct(x)[0, 0, 5, 9].backward()
    assert x.grad is not None
    assert not x.grad[0, 0, 4:8, 8:12].any()
    assert x.grad.any()


def test_masks_are_averaged(make, smooth) -> None:
    x, two = smooth(3), make("mae", masks=2)
    first = make("mae").reconstruct(x)
    second = make("mae")
    second.visible, second.share = two.visible[4:], two.share[4:] * 2
    torch.testing.assert_close(two.reconstruct(x), (first + second.reconstruct(x)) / 2)


def test_errors_of_patches_are_pooled_as_named() -> None:
    errors = torch.tensor([[4.0, 1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0, 5.0]])
    assert pooled(errors, "mean", 0.4).tolist() == [2, 1]
    assert pooled(errors, "max", 0.4).tolist() == [4, 5]
    assert pooled(errors, "topk", 0.4).tolist() == [3.5, 2.5]
    assert pooled(errors, "topk", 0.01).tolist() == [4, 5]


def test_the_published_score_is_the_mean_squared_error(make, smooth, system, stream) -> None:
    made, x = make("mae"), smooth(3)
    expected = (x - made.reconstruct(x)).square().mean((1, 2, 3))
    torch.testing.assert_close(made.score(x, system, stream(3)), expected)
    torch.testing.assert_close(made.error_map(x, system, stream(3)).mean((1, 2)), expected)


def test_a_planted_perturbation_shows_where_it_is(make, smooth, system, stream, knows_smooth) -> None:
    made, clean = make("mae", score_mask_ratio=0.5), smooth(40, seed=2)
    made.load_state_dict(knows_smooth)
    x = planted(clean, 0.2)
    shown = made.error_map(x, system, stream(40)).detach()
    worst = made.net.split(shown.unsqueeze(1)).mean(-1).argmax(1)
    assert (worst == 4 + 2).all()
    assert made.score(x, system, stream(40)).gt(made.score(clean, system, stream(40))).all()


def test_the_largest_error_finds_one_patch_that_the_mean_overlooks(make, smooth, system, stream, knows_smooth) -> None:
    clean, rest = smooth(60, seed=2), smooth(60, seed=4)
    found = {}
    for pool in ("mean", "topk", "max"):
        made = make("mae", pool=pool, topk=0.2, score_mask_ratio=0.5)
        made.load_state_dict(knows_smooth)
        found[pool] = auroc(*(made.score(x, system, stream(60)) for x in (rest, planted(clean, 0.13))))
    assert found["max"] > found["topk"] + 0.05 > found["mean"] + 0.1
    assert found["max"] > 0.8


def test_combined_is_the_weighted_sum_of_the_other_two(make, smooth, system, stream) -> None:
    x, params = smooth(3), {"weight": 7.0, "pool": "max"}
    one, two, both = (make("mae", score=s, **params) for s in ("consistency", "reconstruction", "combined"))
    expected = one.score(x, system, stream(3)) + 7 * two.score(x, system, stream(3))
    torch.testing.assert_close(both.score(x, system, stream(3)), expected)


def test_more_references_lower_the_spread_over_noise_draws(make, smooth, system, stream) -> None:
    x = smooth(1).expand(64, -1, -1, -1)
    spread = [make("mae", score="consistency", references=r).score(x, system, stream(64)).std() for r in (1, 8)]
    assert spread[1] < 0.6 * spread[0]


def test_purified_reference_without_purifier_is_refused(make, smooth, system, stream) -> None:
    with pytest.raises(BadParameter, match=r"mae with reference=purified needs a defense with a purifier"):
        make("mae", score="consistency").score(smooth(1), rbmed.System(system.classifier), stream(1))


def test_pictures_show_what_is_hidden(make, smooth, stream) -> None:
    shown = make("mae").pictures(smooth(2), stream(2))
    assert list(shown) == ["image", "visible in one pass", "reconstruction"]
    assert all(picture.shape == (2, 1, SIZE, SIZE) for picture in shown.values())
    black = make("mae").net.split(shown["visible in one pass"]).eq(0).all(-1).sum(1)
    assert black.tolist() == [12, 12]


def test_the_learner_hides_patches_at_random_from_the_global_generator(make, smooth, system) -> None:
    learner, x, y = make("mae").learner(system), smooth(4), torch.zeros(4, dtype=torch.int64)
    torch.manual_seed(3)
    first, second = learner.loss(x, y), learner.loss(x, y)
    torch.manual_seed(3)
    assert learner.loss(x, y) == first != second
    assert learner.seen == 8


def test_the_learner_is_the_part_and_its_loss_falls(make, smooth, system, stream, knows_smooth) -> None:
    images, y = smooth(64, seed=5), torch.zeros(64, dtype=torch.int64)
    fresh, made = make("mae", score_mask_ratio=0.5), make("mae", score_mask_ratio=0.5)
    learner = made.learner(system)
    assert learner.state_dict().keys() == made.state_dict().keys()
    torch.manual_seed(0)
    before = learner.loss(images, y)
    made.load_state_dict(knows_smooth)
    torch.manual_seed(0)
    assert learner.loss(images, y) < 0.05 * before  # the learner sees what its part has loaded
    known, unknown = (part.score(images, system, stream(64)).mean() for part in (made, fresh))
    assert known < 0.05 * unknown
    assert known < 0.1 * (images - images.mean(0)).square().mean()


def test_a_trained_detector_survives_half_precision(make, smooth, system, stream, knows_smooth) -> None:
    made, stored, x = make("mae"), make("mae"), smooth(32)
    made.load_state_dict(knows_smooth)
    stored.load_state_dict({name: value.half() for name, value in knows_smooth.items()})
    before, after = (part.score(x, system, stream(32)) for part in (made, stored))
    torch.testing.assert_close(after, before, rtol=0.05, atol=0)
