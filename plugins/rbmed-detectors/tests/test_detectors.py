"""The detectors: masks, scores, training and resuming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_detectors.control import RandomDetector
from rbmed_detectors.mae import MAEDetector, MAEParams, patterns
from rbmed_detectors.scores import jensen_shannon
from robustbench_med.errors import BadParameter, WeightsError
from robustbench_med.testing import Stop, StopAfter

SIZE = 16
TINY = {"patch": 4, "width": 16, "depth": 1, "decoder_width": 16, "decoder_depth": 1, "heads": 2}
SCORES = [
    {"score": "reconstruction"},
    {"score": "consistency", "reference": "reconstruction"},
    {"score": "consistency", "reference": "purified", "references": 2},
    {"score": "combined", "reference": "purified"},
    {"score": "combined", "reference": "reconstruction"},
]


class Linear(rbmed.Classifier):
    """Two classes from a linear map of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(SIZE * SIZE, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1)) * 5
        return logits


class Noise(rbmed.Purifier):
    """Adds noise that grows with the strength."""

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        return (x + 0.2 * strength.view(-1, 1, 1, 1) * rng.normal(tuple(x.shape))).clamp(0, 1)


def smooth(n: int, seed: int = 0) -> Tensor:
    """Images with bilinear shading between four random corners: hidden patches follow from visible ones."""
    corners = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(corners, size=SIZE, mode="bilinear", align_corners=True)


def detector(**params: Any) -> MAEDetector:
    torch.manual_seed(0)
    made = MAEDetector(MAEParams(**{**TINY, **params}))
    made.build(1, SIZE)
    return made.eval()


def system() -> rbmed.System:
    torch.manual_seed(1)
    return rbmed.System(Linear(), Noise())


def stream(n: int, name: str = "defense") -> rbmed.Stream:
    return rbmed.Stream.named(name, 0, torch.arange(n))


@pytest.mark.parametrize(("passes", "ratio"), [(4, 0.75), (4, 0.25), (2, 0.5), (3, 0.5), (5, 0.9)])
def test_patterns_hide_every_patch_about_equally_often(passes: int, ratio: float) -> None:
    visible, hidden = patterns(64, passes, ratio)
    assert visible.shape == (passes, 64 - math.ceil(64 * ratio))
    assert (hidden.gather(1, visible) == 0).all()
    assert (hidden.sum(1) + visible.shape[1] == 64).all()
    times = hidden.sum(0)
    assert times.min() >= 1
    assert times.max() - times.min() <= 1


def test_too_few_passes_to_hide_every_patch_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least 4 passes"):
        MAEParams(passes=3, score_mask_ratio=0.25)


def test_splitting_and_joining_patches_are_inverse() -> None:
    net, x = detector().net, smooth(3)
    assert net.split(x).shape == (3, 16, 16)
    assert torch.equal(net.split(x)[0, 1], x[0, 0, :4, 4:8].flatten())
    assert torch.equal(net.join(net.split(x), SIZE), x)


@pytest.mark.parametrize("ratio", [0.75, 0.25])
def test_no_patch_sees_itself(ratio: float) -> None:
    made = detector(score_mask_ratio=ratio, passes=4)
    x = smooth(1).requires_grad_()
    row, column = 5, 9
    made.reconstruct(x)[0, 0, row, column].backward()
    assert x.grad is not None
    assert not x.grad[0, 0, 4:8, 8:12].any()
    assert x.grad.any()


@pytest.mark.parametrize("params", SCORES)
def test_scores_are_finite_differentiable_and_independent_of_the_batch(params: dict[str, Any]) -> None:
    made, parts, x = detector(**params), system(), smooth(5).requires_grad_()
    scores = made.score(x, parts, stream(5))
    assert scores.shape == (5,)
    assert scores.dtype == torch.float32
    alone = torch.cat([made.score(x[i : i + 1], parts, stream(5)[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, scores, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).any(1).all()


def test_combined_is_the_weighted_sum_of_the_other_two() -> None:
    x, parts = smooth(3), system()
    one, two, both = (detector(score=s, weight=7.0) for s in ("consistency", "reconstruction", "combined"))
    expected = one.score(x, parts, stream(3)) + 7 * two.score(x, parts, stream(3))
    torch.testing.assert_close(both.score(x, parts, stream(3)), expected)


def test_consistency_follows_its_stream() -> None:
    made, parts, x = detector(score="consistency"), system(), smooth(4)
    first = made.score(x, parts, stream(4))
    assert torch.equal(made.score(x, parts, stream(4)), first)
    assert not torch.equal(made.score(x, parts, stream(4, "other")), first)


def test_more_references_lower_the_spread_over_noise_draws() -> None:
    parts, x = system(), smooth(1).expand(64, -1, -1, -1)
    spread = [detector(score="consistency", references=r).score(x, parts, stream(64)).std() for r in (1, 8)]
    assert spread[1] < 0.6 * spread[0]


def test_purified_reference_without_purifier_is_refused() -> None:
    with pytest.raises(BadParameter, match="needs a defense with a purifier"):
        detector(score="consistency").score(smooth(1), rbmed.System(Linear()), stream(1))


def test_jensen_shannon_against_its_definition_and_bounds() -> None:
    a, b = torch.tensor([[0.3, -1.0, 2.0]]), torch.tensor([[1.0, 0.5, -0.7]])
    p, q = a.softmax(1), b.softmax(1)
    m = (p + q) / 2
    expected = ((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1)) / 2
    torch.testing.assert_close(jensen_shannon(a, b), expected)
    assert abs(float(jensen_shannon(a, a))) < 1e-15
    sure = torch.tensor([[500.0, -500.0]])
    assert float(jensen_shannon(sure, -sure)) == pytest.approx(math.log(2))
    # Float32 alone would drown this difference in rounding.
    assert 0 < float(jensen_shannon(sure / 100, sure / 100 + torch.tensor([[0.01, 0.0]]))) < 1e-6


def test_training_lowers_the_loss_and_beats_the_mean_image() -> None:
    images = smooth(64)
    short = detector(epochs=1, batch_size=16, lr=5e-3).fit(images, rbmed.TrainJob())
    long = detector(epochs=60, batch_size=16, lr=5e-3).fit(images, rbmed.TrainJob())
    assert long["loss"] < 0.5 * short["loss"]
    assert long["reconstruction_error"] < 0.5 * float((images - images.mean(0)).square().mean())


def test_a_trained_detector_survives_half_precision_and_a_rebuild() -> None:
    made, images = detector(epochs=5, batch_size=16, lr=5e-3), smooth(32)
    made.fit(images, rbmed.TrainJob())
    stored = {name: value.half() for name, value in made.state_dict().items()}
    other = detector()
    other.load_state_dict(stored)
    parts = system()
    before, after = made.score(images, parts, stream(32)), other.score(images, parts, stream(32))
    torch.testing.assert_close(after, before, rtol=0.01, atol=0)


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    images, params = smooth(32), {"epochs": 6, "batch_size": 16}
    whole = detector(**params)
    metrics = whole.fit(images, rbmed.TrainJob())
    with pytest.raises(Stop):
        detector(**params).fit(images, rbmed.TrainJob(checkpoints=tmp_path, progress=StopAfter(3)))
    resumed = detector(**params)
    nn.init.zeros_(resumed.net.bridge.weight)  # shows that the weights come from the checkpoint
    assert resumed.fit(images, rbmed.TrainJob(checkpoints=tmp_path)) == metrics
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


def test_a_checkpoint_of_another_run_is_not_used(tmp_path: Path) -> None:
    images, params = smooth(32), {"epochs": 2, "batch_size": 16}
    detector(**params).fit(images, rbmed.TrainJob(seed=1, checkpoints=tmp_path))
    fresh, beside = detector(**params), detector(**params)
    fresh.fit(images, rbmed.TrainJob(seed=2))
    beside.fit(images, rbmed.TrainJob(seed=2, checkpoints=tmp_path))
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), beside.state_dict().values(), strict=True)
    )


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "mae.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"mae\.safetensors is damaged"):
        detector().fit(smooth(4), rbmed.TrainJob(checkpoints=tmp_path))


def test_an_image_side_that_patches_do_not_tile_is_refused() -> None:
    with pytest.raises(BadParameter, match="patch=4 must divide the image side, 18 px"):
        MAEDetector(MAEParams(**TINY)).build(1, 18)


def test_random_detector_does_not_look_at_the_image() -> None:
    made, parts = RandomDetector(), system()
    scores = made.score(smooth(500), parts, stream(500))
    assert torch.equal(made.score(torch.zeros(500, 1, SIZE, SIZE), parts, stream(500)), scores)
    assert scores.dtype == torch.float32
    assert abs(float(scores.mean()) - 0.5) < 0.05
    assert made.fit(smooth(4), rbmed.TrainJob()) == {}
