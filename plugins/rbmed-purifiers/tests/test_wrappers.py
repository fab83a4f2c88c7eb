"""Votes on hand-made logits, and the copies that are voted on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.wrappers.voters import Ensemble, Majority
from rbmed_purifiers.wrappers.wrapper import Vote, vote
from robustbench_med.errors import BadParameter, UnknownName
from robustbench_med.testing import toy_images

SIZE = 16
DDIM = "ddim:width=8,levels=1,steps=1"
#: Two voters are hardly for class 1, one is firmly for class 0.
SPLIT = torch.tensor([[[0.9, 0.1], [0.4, 0.6], [0.45, 0.55]]]).log()
MEAN = torch.tensor([[1.75 / 3, 1.25 / 3]])


def purifier(text: str) -> rbmed.Purifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: rbmed.Purifier = rbmed.load_component("purifier", text)
        made.build(1, SIZE)
    return made.eval().requires_grad_(False)


def images(n: int = 4) -> tuple[Tensor, Tensor, rbmed.Stream]:
    x, rng = toy_images(n, size=SIZE)
    return x, torch.linspace(0.2, 1, n), rng


# --- votes -------------------------------------------------------------------------------------------------------


def test_mean_is_the_log_of_the_mean_probability() -> None:
    torch.testing.assert_close(vote(SPLIT, "mean"), MEAN.log())
    assert vote(SPLIT, "mean").argmax(1) == 0


def test_majority_follows_the_count() -> None:
    torch.testing.assert_close(vote(SPLIT, "majority"), ((torch.tensor([[1.0, 2.0]]) + MEAN) / 4).log())
    assert vote(SPLIT, "majority").argmax(1) == 1


def test_ties_are_broken_by_the_mean_probability() -> None:
    assert vote(SPLIT[:, :2], "majority").argmax(1) == 0
    assert vote(SPLIT[:, :2].flip(2), "majority").argmax(1) == 1


@pytest.mark.parametrize("how", ["mean", "majority"])
def test_answers_are_log_probabilities_and_one_voter_decides_alone(how: Vote) -> None:
    logits = 5 * torch.randn(64, 7, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(vote(logits, how).exp().sum(1), torch.ones(64))
    assert torch.equal(vote(logits[:, :1], how).argmax(1), logits[:, 0].argmax(1))


def test_majority_always_has_the_most_votes() -> None:
    logits = 3 * torch.randn(500, 5, 3, generator=torch.Generator().manual_seed(0))
    counts = torch.nn.functional.one_hot(logits.argmax(2), 3).sum(1)
    winners = vote(logits, "majority").argmax(1, keepdim=True)
    assert torch.equal(counts.gather(1, winners), counts.max(1, keepdim=True).values)
    assert (counts.gather(1, winners) == counts).sum(1).gt(1).any(), "some of them are ties"


@pytest.mark.parametrize("how", ["mean", "majority"])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_gradients_flow_through_the_mean_probability(how: Vote, scale: float) -> None:
    logits = (SPLIT * scale).requires_grad_()
    answer = vote(logits, how)
    assert answer.isfinite().all()
    (slope,) = torch.autograd.grad(answer[0, 0] - answer[0, 1], logits)
    assert slope.isfinite().all()
    if scale == 1:
        assert (slope[..., 0] > 0).all(), "a voter who leans to class 0 helps class 0"


# --- copies ------------------------------------------------------------------------------------------------------


def test_majority_copies_have_noise_of_their_own_and_the_first_is_the_plain_one() -> None:
    made, (x, strength, rng) = purifier(f"majority:purifier=[{DDIM}],copies=3"), images()
    assert (made.votes, made.stochastic, made.differentiable) == (3, True, True)
    copies = made.copies(x, strength, rng[:])
    assert copies.shape == (4, 3, 1, SIZE, SIZE)
    first = purifier(DDIM).purify(x, strength, rng[:])
    torch.testing.assert_close(copies[:, 0], first, rtol=0, atol=1e-5)
    torch.testing.assert_close(made.purify(x, strength, rng[:]), first, rtol=0, atol=1e-5)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert ((copies[:, a] - copies[:, b]).flatten(1).abs().mean(1) > 0.01).all()


def test_ensemble_copies_are_those_of_its_purifiers() -> None:
    made, (x, strength, rng) = purifier("ensemble:purifiers=[[jpeg],[median:radius=2],[clamp]]"), images()
    assert (made.votes, made.stochastic, made.differentiable) == (3, False, True)
    copies = made.copies(x, strength, rng[:])
    for at, text in enumerate(("jpeg", "median:radius=2", "clamp")):
        assert torch.equal(copies[:, at], purifier(text).purify(x, strength, rng[:])), text
    assert torch.equal(made.purify(x, strength, rng[:]), copies[:, 0])


def test_equal_voters_of_an_ensemble_have_noise_of_their_own() -> None:
    made, (x, strength, rng) = purifier(f"ensemble:purifiers=[[{DDIM}],[{DDIM}]]"), images()
    made.inner()[1].load_state_dict(made.inner()[0].state_dict())
    copies = made.copies(x, strength, rng[:])
    assert ((copies[:, 0] - copies[:, 1]).flatten(1).abs().mean(1) > 0.01).all()


def test_a_wrapper_in_a_wrapper_is_asked_for_its_own_answer() -> None:
    made = purifier(f"ensemble:purifiers=[[majority:purifier=[{DDIM}],copies=3,vote=majority],[jpeg]],vote=mean")
    x, strength, rng = images()
    assert made.votes == 4
    assert made.copies(x, strength, rng).shape == (4, 4, 1, SIZE, SIZE)
    logits = torch.cat([SPLIT, SPLIT[:, :1]], 1)
    inner = vote(SPLIT, "majority").softmax(1)
    torch.testing.assert_close(made.join(logits), ((inner + SPLIT[:, 0].exp()) / 2).log())


def test_copies_of_an_ensemble_keep_its_votes_together() -> None:
    made = purifier(f"majority:purifier=[ensemble:purifiers=[[{DDIM}],[clamp]],vote=mean],copies=2")
    x, strength, rng = images()
    copies = made.copies(x, strength, rng)
    assert torch.equal(copies[:, 1], x)
    assert torch.equal(copies[:, 3], x)
    logits = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(0))
    each = torch.stack([vote(logits[:, :2], "mean"), vote(logits[:, 2:], "mean")], 1)
    torch.testing.assert_close(made.join(logits), vote(each, "majority"))


def test_one_voter_without_gradient_leaves_none() -> None:
    made, (x, strength, rng) = purifier("ensemble:purifiers=[[jpeg],[bit-depth]]"), images()
    assert not made.differentiable
    assert not made.copies(x.requires_grad_(), strength, rng).requires_grad


def test_parts_are_inside_the_wrapper() -> None:
    made = purifier(f"majority:purifier=[{DDIM}],copies=2")
    (part,) = made.inner()
    assert {f"parts.0.{name}" for name in part.state_dict()} == set(made.state_dict())
    assert (part.spec_name, type(made)) == ("ddim", Majority)


# --- construction ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("majority:purifier=jpeg", "majority: 'jpeg' is deterministic, so copies=8"),
        ("majority:purifier=[ensemble:purifiers=[jpeg,median]]", "is deterministic, so copies=8"),
        ("majority:copies=0", "copies='0' .* valid: int >= 1"),
        ("majority:vote=plurality", "vote='plurality' .* valid: majority | mean"),
        ("ensemble:purifiers=[jpeg]", "purifiers=.* at least 2 items"),
        ("ensemble:purifiers=[[jpeg:quality=3],[median]]", "unknown parameter 'quality'"),
    ],
)
def test_what_cannot_be_voted_on_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        rbmed.load_component("purifier", text)


def test_an_unknown_purifier_is_named() -> None:
    with pytest.raises(UnknownName, match="unknown purifier 'jpg', did you mean 'jpeg'"):
        rbmed.load_component("purifier", "ensemble:purifiers=[[jpg],[median]]")


def test_one_copy_of_a_deterministic_purifier_is_that_purifier() -> None:
    made, (x, strength, rng) = purifier("majority:purifier=jpeg,copies=1"), images()
    assert torch.equal(made.copies(x, strength, rng)[:, 0], purifier("jpeg").purify(x, strength, rng))
    assert math.isclose(float(made.join(SPLIT[:, :1]).exp().sum()), 1, rel_tol=1e-6)


def test_voters_are_formatted_alike_however_they_were_written() -> None:
    expected = ("jpeg", "[jpeg:quality_min=10,gradient=soft]")
    for texts in (("jpeg", "jpeg:quality_min=10,gradient=soft"), ("[jpeg]", "[jpeg:quality_min=10,gradient=soft]")):
        assert Ensemble.Params(purifiers=texts).purifiers == expected
    made = rbmed.load_component("purifier", "ensemble:purifiers=[[jpeg],[jpeg:quality_min=10,gradient=soft]]")
    assert isinstance(made, Ensemble)
    assert made.params.purifiers == expected
    assert made.inner()[1].params.quality_min == 10
