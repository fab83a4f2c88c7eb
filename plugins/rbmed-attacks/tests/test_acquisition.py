"""Artefacts of an acquisition: exact identities and gradients, physical limits, and the search for the worst."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_attacks.corruptions.acquisition import Acquisition
from rbmed_attacks.corruptions.physics import ARTEFACTS, BY_NAME, Artefact, acquire, lowest
from robustbench_med import Budget, Stream, ThreatModel
from robustbench_med.errors import BadParameter, BudgetExceeded

N, SIZE = 3, 16
SETS: list[tuple[Artefact, ...]] = [*((artefact,) for artefact in ARTEFACTS), ARTEFACTS]


def name(artefacts: tuple[Artefact, ...]) -> str:
    return artefacts[0].name if len(artefacts) == 1 else "all"


def random(dtype: torch.dtype = torch.float64, channels: int = 1) -> tuple[Tensor, Tensor, torch.Generator]:
    chance = torch.Generator().manual_seed(0)
    x = torch.rand(N, channels, SIZE, SIZE, generator=chance, dtype=dtype)
    return x, torch.randn(x.shape, generator=chance, dtype=dtype), chance


def drawn(artefacts: tuple[Artefact, ...], x: Tensor, chance: torch.Generator) -> Tensor:
    low = lowest(artefacts, x)
    return low + (1 - low) * torch.rand(len(x), len(low), generator=chance, dtype=x.dtype)


@pytest.mark.parametrize("artefacts", SETS, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_identity_parameters_and_a_share_of_nothing_change_no_bit(
    artefacts: tuple[Artefact, ...], dtype: torch.dtype, channels: int
) -> None:
    x, noise, chance = random(dtype, channels)
    x[:, :, :4] = 0
    x[:, :, 4:6] = 1
    nothing = x.new_zeros(N, len(lowest(artefacts, x)))
    assert torch.equal(acquire(x, nothing, artefacts, 1.0, noise), x)
    assert torch.equal(acquire(x, drawn(artefacts, x, chance), artefacts, 0.0, noise), x)


@pytest.mark.parametrize("artefacts", SETS, ids=name)
def test_gradients_are_those_of_finite_differences(artefacts: tuple[Artefact, ...]) -> None:
    x, noise, chance = random()
    u = drawn(artefacts, x, chance).clamp(-0.95, 0.95).requires_grad_()
    made = acquire(x, u, artefacts, 1.0, noise)
    weights = torch.randn(made.shape, generator=chance, dtype=made.dtype)
    (slope,) = torch.autograd.grad((made * weights).sum(), u)
    assert slope.any(0).all(), "every parameter has an effect"
    h = 1e-5
    for k in range(u.shape[1]):
        step = torch.zeros_like(u)
        step[:, k] = h
        up, down = (acquire(x, u.detach() + side * step, artefacts, 1.0, noise) for side in (1, -1))
        central = ((up - down) * weights).flatten(1).sum(1) / (2 * h)
        torch.testing.assert_close(slope[:, k], central, rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(
        lambda image: acquire(image, u.detach(), artefacts, 1.0, noise), (x.requires_grad_(),)
    )


@pytest.mark.parametrize("artefacts", SETS, ids=name)
def test_a_search_can_leave_every_limit(artefacts: tuple[Artefact, ...]) -> None:
    """Gradients at the smallest and at the largest parameters are those to the inside, where starts lie."""
    x, noise, chance = random()
    weights = torch.randn(x.shape, generator=chance, dtype=x.dtype)
    low, h = lowest(artefacts, x), 1e-6
    for corner, inward in ((low, h), (torch.ones_like(low), -h)):
        u = corner.expand(len(x), -1).clone().requires_grad_()

        def total(at: Tensor) -> Tensor:
            return (acquire(x, at, artefacts, 1.0, noise) * weights).flatten(1).sum(1)

        (slope,) = torch.autograd.grad(total(u).sum(), u)
        here = total(u.detach())
        for k in range(len(low)):
            step = torch.zeros_like(low)
            step[k] = inward
            one_sided = (total(u.detach() + step) - here) / inward
            torch.testing.assert_close(slope[:, k], one_sided, rtol=1e-3, atol=1e-3)


def test_the_limits_are_kept_at_the_corners() -> None:
    x, _, _ = random()
    grey, noise = torch.full_like(x, 0.5), torch.ones_like(x)

    def made(name: str, value: float) -> Tensor:
        artefact = BY_NAME[name]
        return acquire(grey, torch.full((N, artefact.size), value, dtype=x.dtype), (artefact,), 1.0, noise)

    for value in (-1.0, 1.0):
        field = made("bias-field", value) / 0.5
        assert float(field.max()) <= 1.5 + 1e-12
        assert float(field.min()) >= 1 / 1.5 - 1e-12
    assert float((made("spikes", 1.0) - 0.5).abs().max()) <= 2 * 0.06 + 1e-12
    assert torch.allclose(made("kspace-noise", 1.0), grey + 0.08)


def test_motion_of_all_lines_but_the_reference_shifts_them_by_the_limit() -> None:
    """A single row frequency outside the central group: its phase is that of the shift theorem."""
    artefact = BY_NAME["motion"]
    rows = torch.arange(SIZE, dtype=torch.float64) / SIZE
    wave = torch.cos(2 * math.pi * 6 * rows)[:, None].expand(SIZE, SIZE)[None, None]
    u = torch.zeros(1, artefact.size, dtype=torch.float64)
    u[:, 0::2] = 1.0
    moved = acquire(wave, u, (artefact,), 1.0, wave)
    expected = torch.cos(2 * math.pi * 6 * (rows - 0.02))[:, None].expand(SIZE, SIZE)
    torch.testing.assert_close(moved[0, 0], expected)
    still = torch.full((1, 1, SIZE, SIZE), 0.3, dtype=torch.float64)
    torch.testing.assert_close(acquire(still, u, (artefact,), 1.0, still), still)


def test_gibbs_ringing_overshoots_at_an_edge_and_keeps_the_mean() -> None:
    edge = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    edge[..., 16:48] = 1
    artefact = BY_NAME["gibbs"]
    made = acquire(edge, torch.ones(1, 2, dtype=torch.float64), (artefact,), 1.0, edge)
    assert 1.05 < float(made.max()) < 1.15, "the overshoot of a cut Fourier series is about 9 %"
    assert float(made.mean()) == pytest.approx(0.5, abs=1e-6)


class Bright(rbmed.TargetModel):
    """Class 1 where the upper half is brighter than the lower one."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = nn.Linear(1, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        half = x.shape[2] // 2
        gap = 20 * (x[:, :, :half].flatten(1).mean(1) - x[:, :, half:].flatten(1).mean(1) - 0.02)
        return torch.stack([-gap, gap], 1)


def attacked(text: str, share: float = 1.0, ids: range = range(6), **budget: int) -> tuple[Tensor, Tensor, Bright]:
    x = torch.full((6, 1, SIZE, SIZE), 0.4)[ids.start : ids.stop]
    y, model = torch.zeros(len(x), dtype=torch.int64), Bright()
    made: Acquisition = rbmed.load_component("attack", text)
    rng = Stream.named("attack", 0, torch.tensor(list(ids), dtype=torch.int64))
    return made.run(model, x, y, ThreatModel("acquisition", share), Budget(**budget), rng), x, model


def test_the_worst_bias_field_is_found_where_random_ones_seldom_are() -> None:
    worst, _, model = attacked("acquisition:physics=bias-field,steps=40,restarts=4")
    assert (model(worst).argmax(1) == 1).all()
    usual, _, other = attacked("acquisition:physics=bias-field,steps=0,restarts=1")
    assert other.calls == 0, "a random draw asks nothing"
    lead = [float((model(each)[:, 1] - model(each)[:, 0]).mean()) for each in (worst, usual)]
    assert lead[0] > lead[1] + 1


def test_more_share_breaks_more_and_an_image_depends_on_itself_alone() -> None:
    small, _, model = attacked("acquisition:physics=bias-field,steps=5", share=0.02)
    assert (model(small).argmax(1) == 0).all()
    whole, _, _ = attacked("acquisition:steps=3")
    part, _, _ = attacked("acquisition:steps=3", ids=range(2, 5))
    torch.testing.assert_close(whole[2:5], part, rtol=0, atol=1e-5)
    assert ((whole >= 0) & (whole <= 1)).all()
    none, x, _ = attacked("acquisition", ids=range(0))
    assert none.shape == x.shape


def test_the_budget_ends_the_search() -> None:
    _, _, model = attacked("acquisition:steps=10,restarts=4", gradients=7)
    assert model.calls == 7
    with pytest.raises(BudgetExceeded):
        attacked("acquisition:steps=10", gradients=0)


def test_the_attack_brings_its_threat_model() -> None:
    made = rbmed.load_component("attack", "acquisition:share=1/2,steps=0,restarts=1")
    assert (made.own_threat, made.access) == (("acquisition", 0.5), "none")
    assert rbmed.load_component("attack", "acquisition:steps=0,restarts=9").access == "scores"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acquisition:physics=moton", "unknown artefact 'moton'; valid: all, bias-field, motion"),
        ("acquisition:physics=motion+motion", "each artefact once"),
        ("acquisition:physics=", "physics"),
        ("acquisition:share=0", "share='0'"),
        ("acquisition:share=nan", "share='nan'"),
        ("acquisition:share=2", "share='2' should be less than or equal to 1"),
        ("acquisition:share=1.01", "share='1.01'"),
        ("acquisition:restarts=0", "restarts='0'"),
        ("acquisition:start=middle", "valid: limit | inside"),
    ],
)
def test_what_cannot_be_acquired_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message.replace("|", r"\|")):
        rbmed.load_component("attack", text)
