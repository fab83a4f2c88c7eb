"""Detectors on the classifier's answers: closed forms, hand-made answers, purifiers whose effect is known."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.scores import BOUNDARY, DIVERGENCES, flip, jensen_shannon, l1
from rbmed_detectors.squeezing import FeatureSqueezing, bit_depth, median, non_local_mean
from robustbench_med.errors import BadParameter


class Pixels(rbmed.Classifier):
    """The pixels are the logits, ten times."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * x.flatten(1)


class Plain(rbmed.Purifier):
    """Deterministic, whatever the strength."""

    stochastic = False

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        return self.change(x)


class Two(Plain):
    """Asks about the image and about its negative, and takes the mean."""

    votes = 2

    def copies(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        return torch.stack([x, 1 - x], 1)

    def join(self, logits: Tensor) -> Tensor:
        return logits.mean(1)


def images(rows: list[list[float]]) -> Tensor:
    """Images of 2 x 2 pixels."""
    return torch.tensor(rows).view(-1, 1, 2, 2)


def auroc(clean: Tensor, attacked: Tensor) -> float:
    return float((attacked[:, None] > clean).float().mean())


def test_energy_and_max_softmax_in_closed_form(make, stream) -> None:
    x, system = images([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]]), rbmed.System(Pixels())
    logits = [[10 * v for v in row.flatten().tolist()] for row in x]
    for t in (1.0, 4.0):
        energy = [-t * math.log(sum(math.exp(v / t) for v in row)) for row in logits]
        made = make("energy", temperature=t)
        torch.testing.assert_close(made.score(x, system, stream(3)), torch.tensor(energy))
    surest = [math.exp(max(row)) / sum(math.exp(v) for v in row) for row in logits]
    scores = make("max-softmax").score(x, system, stream(3))
    torch.testing.assert_close(scores, 1 - torch.tensor(surest, dtype=torch.float64).float(), rtol=1e-3, atol=0)
    assert scores[2] == pytest.approx(0.75)


def test_confidence_next_to_one_is_told_apart(make, stream) -> None:
    # Logits 30 and 31 above the rest: float32 rounds both probabilities to 1.
    x = images([[3.0, 0.0, 0.0, 0.0], [3.1, 0.0, 0.0, 0.0]])
    scores = make("max-softmax").score(x, rbmed.System(Pixels()), stream(2))
    torch.testing.assert_close(scores, 3 * torch.tensor([-30.0, -31.0]).exp(), rtol=1e-4, atol=0)


def test_squeezing_by_hand(make, stream) -> None:
    x, system = images([[0.6, 0.2, 0.2, 0.2], [1.0, 0.0, 0.0, 0.0]]), rbmed.System(Pixels())
    made = make("feature-squeezing", bits=1, median=0)
    before, after = torch.tensor([6.0, 2, 2, 2]).softmax(0), torch.tensor([10.0, 0, 0, 0]).softmax(0)
    scores = made.score(x, system, stream(2))
    torch.testing.assert_close(scores, torch.stack([(before - after).abs().sum(), torch.zeros(())]))


def test_squeezing_takes_the_farthest_answer(make, smooth, system, stream) -> None:
    x = (smooth(12) + 0.1 * stream(12).normal((12, 1, 16, 16))).clamp(0, 1)
    kinds = [{"bits": 2, "median": 0}, {"bits": 0, "median": 3}, {"bits": 0, "median": 0, "non_local": 20.0}]
    each = [make("feature-squeezing", **kind).score(x, system, stream(12)) for kind in kinds]
    together = make("feature-squeezing", bits=2, median=3, non_local=20.0).score(x, system, stream(12))
    torch.testing.assert_close(together, torch.stack(each).amax(0))
    assert torch.stack(each).argmax(0).unique().numel() > 1


def test_no_squeezer_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one squeezer"):
        FeatureSqueezing.Params(bits=0, median=0)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_bit_depth_has_so_many_levels_and_the_identitys_gradient(bits: int) -> None:
    x = torch.linspace(0, 1, 4096).view(1, 1, 64, 64).requires_grad_()
    made = bit_depth(x, bits)
    assert len((made.detach() * (2**bits - 1)).round().unique()) == 2**bits
    assert (made - x).abs().max() <= 0.5 / (2**bits - 1) + 1e-6
    made.sum().backward()
    assert x.grad is not None
    assert x.grad.eq(1).all()


@pytest.mark.parametrize("size", [2, 3, 5])
def test_median_against_scipy(size: int) -> None:
    x = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    expected = ndimage.median_filter(x.numpy(), size=(1, 1, size, size), mode="mirror")
    assert torch.equal(median(x, size), torch.from_numpy(expected))


def test_median_passes_the_gradient_to_the_pixel_it_picks() -> None:
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    made = median(x, 3)
    made[0, 0, 4, 4].backward()
    assert x.grad is not None
    assert x.grad.sum() == 1
    assert x[x.grad.bool()].item() == made[0, 0, 4, 4].item()


def test_non_local_mean_removes_noise_and_keeps_edges() -> None:
    clean = torch.full((1, 1, 24, 24), 0.25)
    clean[..., 12:] = 0.75
    noisy = clean + 0.02 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    made = non_local_mean(noisy, 0.05)
    assert (made - clean).square().mean() < 0.2 * (noisy - clean).square().mean()
    assert (made[..., 11] < 0.3).all()
    assert (made[..., 12] > 0.7).all()
    torch.testing.assert_close(non_local_mean(clean, 0.05), clean)


def test_divergences_against_their_definitions_and_bounds() -> None:
    a, b = torch.tensor([[0.3, -1.0, 2.0]]), torch.tensor([[1.0, 0.5, -0.7]])
    p, q = a.softmax(1), b.softmax(1)
    m = (p + q) / 2
    expected = ((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1)) / 2
    torch.testing.assert_close(jensen_shannon(a, b), expected)
    torch.testing.assert_close(l1(a, b), (p - q).abs().sum(1))
    assert flip(a, b).tolist() == [1]
    for divergence in DIVERGENCES.values():
        assert abs(float(divergence(a, a))) < 1e-15
        torch.testing.assert_close(divergence(a, b), divergence(b, a))
    sure = torch.tensor([[500.0, -500.0]])
    assert [float(divergence(sure, -sure)) for divergence in (jensen_shannon, l1)] == pytest.approx([math.log(2), 2])
    # Float32 alone would drown this difference in rounding.
    assert 0 < float(jensen_shannon(sure / 100, sure / 100 + torch.tensor([[0.01, 0.0]]))) < 1e-6


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("copies", [1, 3])
def test_nothing_purified_means_no_disagreement(make, smooth, system, stream, divergence: str, copies: int) -> None:
    same = rbmed.System(system.classifier, Plain(lambda x: x))
    scores = make("disagreement", divergence=divergence, copies=copies).score(smooth(9), same, stream(9))
    assert scores.abs().max() < 1e-12
    assert make("diffusion-error", copies=copies).score(smooth(9), same, stream(9)).eq(0).all()


def test_disagreement_by_hand(make, stream) -> None:
    x = images([[0.7, 0.3, 0.3, 0.3], [0.5, 0.5, 0.5, 0.5]])
    system = rbmed.System(Pixels(), Plain(lambda x: 1 - x))
    before, after = 10 * x.flatten(1), 10 - 10 * x.flatten(1)
    for name, divergence in DIVERGENCES.items():
        scores = make("disagreement", divergence=name, copies=2).score(x, system, stream(2))
        torch.testing.assert_close(scores, divergence(before, after))
    assert make("disagreement", divergence="flip").score(x, system, stream(2)).tolist() == [1, 0]


def test_copies_that_a_purifier_joins_count_as_one_answer(make, stream) -> None:
    x, system = images([[0.7, 0.3, 0.3, 0.3]]), rbmed.System(Pixels(), Two(lambda x: x))
    scores = make("disagreement", divergence="l1").score(x, system, stream(1))
    torch.testing.assert_close(scores, l1(10 * x.flatten(1), torch.full((1, 4), 5.0)))
    error = make("diffusion-error").score(x, system, stream(1))
    torch.testing.assert_close(error, (1 - 2 * x).square().flatten(1).mean(1) / 2)


def test_disagreement_is_the_consistency_of_the_autoencoder(make, smooth, system, stream) -> None:
    x = smooth(6)
    one = make("disagreement", copies=3, strength=0.7).score(x, system, stream(6))
    two = make("mae", score="consistency", references=3, consistency_strength=0.7).score(x, system, stream(6))
    assert torch.equal(one, two)


def test_diffusion_error_shows_where_purification_changes_the_image(make, smooth, system, stream) -> None:
    shift = torch.zeros(16, 16)
    shift[:, :8] = 0.1
    known = rbmed.System(system.classifier, Plain(lambda x: x + shift))
    made, x = make("diffusion-error", copies=2), smooth(4)
    torch.testing.assert_close(made.error_map(x, known, stream(4)), (shift**2).expand(4, -1, -1), atol=1e-7, rtol=0)
    torch.testing.assert_close(made.score(x, known, stream(4)), torch.full((4,), 0.005), atol=1e-7, rtol=0)


def test_more_copies_lower_the_spread_over_noise_draws(make, smooth, system, stream) -> None:
    x = smooth(1).expand(64, -1, -1, -1)
    for name in ("disagreement", "diffusion-error"):
        spread = [make(name, copies=n).score(x, system, stream(64)).std() for n in (1, 8)]
        assert spread[1] < 0.6 * spread[0]


@pytest.mark.parametrize("name", ["disagreement", "diffusion-error"])
def test_a_defense_without_purifier_is_refused(make, smooth, system, stream, name: str) -> None:
    with pytest.raises(BadParameter, match=f"detector {name} needs a defense with a purifier"):
        make(name).score(smooth(1), rbmed.System(system.classifier), stream(1))


def test_random_detector_does_not_look_at_the_image(make, system, stream) -> None:
    made, clean = make("random"), torch.zeros(2000, 1, 1, 1)
    scores = made.score(clean, system, stream(2000))
    assert torch.equal(made.score(clean + 1, system, stream(2000)), scores)
    assert auroc(scores, made.score(clean + 1, system, stream(2000, "attacked"))) == pytest.approx(0.5, abs=0.05)
    assert 0 <= scores.min() <= scores.max() < 1


@pytest.mark.parametrize("name", ["js", "l1"])
def test_what_is_within_reach_of_an_image_on_the_decision_boundary(name):
    """Two answers tie, and the copy is as certain of one of them as may be: no copy of such an image scores more."""
    tie = torch.zeros(1, 2, dtype=torch.float64)
    copies = torch.linspace(-60, 60, 241, dtype=torch.float64)[:, None] * torch.tensor([[1.0, -1.0]])
    found = DIVERGENCES[name](tie.expand_as(copies), copies)
    assert float(found.max()) == pytest.approx(BOUNDARY[name])
    assert BOUNDARY["flip"] is None
