"""Threat model: distances, projection, the check of norm and range."""

from __future__ import annotations

import pytest
import torch
from helpers.toys import images

from robustbench_med.errors import OutsideThreatModel, UsageError
from robustbench_med.grid.config import build
from robustbench_med.interfaces.threat import ThreatModel


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_lands_inside_ball_and_range(norm: str) -> None:
    threat = ThreatModel(norm=norm, eps=0.1)
    x = images()
    projected = threat.project(x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), x)
    threat.check(projected, x)
    assert (threat.distance(projected, x) <= 0.1 + 1e-6).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_leaves_points_inside_alone(norm: str) -> None:
    threat = ThreatModel(norm=norm, eps=0.5)
    x = images()
    near = (x + 0.001).clamp(0, 1)
    assert torch.allclose(threat.project(near, x), near)


def test_distance_by_hand() -> None:
    a, b = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.3, -0.4]]]])
    assert ThreatModel(norm="linf").distance(a, b).item() == pytest.approx(0.4)
    assert ThreatModel(norm="l2").distance(a, b).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x + 0.2, "lies 0.2 away in linf"),
        (lambda x: x * 0 + 1.05, r"outside \[0, 1\]"),
        (lambda x: x * float("nan"), "not finite"),
        (lambda x: x[:, :, :2], "returned shape"),
    ],
)
def test_violations_are_named(change, message: str) -> None:
    x = images() * 0.5
    with pytest.raises(OutsideThreatModel, match=message):
        ThreatModel(eps=0.1).check(change(x), x)


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), float("inf")])
def test_eps_must_be_positive_and_finite(eps: float) -> None:
    with pytest.raises(UsageError, match="eps must be"):
        ThreatModel(eps=eps)


def test_unknown_norm_and_access_say_what_is_valid() -> None:
    with pytest.raises(UsageError, match="unknown norm 'l7'; valid: linf, l2, l1, corruption, acquisition"):
        ThreatModel(norm="l7")
    with pytest.raises(
        UsageError,
        match=r"unknown access 'ful', did you mean 'full'. valid: oblivious, transfer, insider, boundary, bpda",
    ):
        ThreatModel(access="ful")
    with pytest.raises(UsageError, match="unknown goal 'fame'; valid: untargeted, hide-lesion, fake-lesion"):
        ThreatModel(goal="fame")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("linf:4/255", ThreatModel("linf", 4 / 255)),
        ("l2:eps=0.5,goal=hide-lesion", ThreatModel("l2", 0.5, goal="hide-lesion")),
        ({"norm": "l1", "eps": 12}, ThreatModel("l1", 12.0)),
    ],
)
def test_a_threat_is_read_from_text_or_a_table(written: str | dict[str, object], expected: ThreatModel) -> None:
    assert ThreatModel.parse(written) == expected


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("linf", "a threat has a norm, an eps"),
        ("linf:4/255,access=full", "a threat has a norm, an eps"),
        ({"eps": 1}, "a threat has a norm, an eps"),
        ("linf:four", "'four' is not a number or a fraction"),
        ("l7:1", "unknown norm 'l7'; valid: linf, l2, l1"),
        ("linf:0", "eps must be > 0"),
        ("linf:1,goal=fame", "unknown goal 'fame'; valid: untargeted"),
    ],
)
def test_a_threat_that_is_not_valid_is_one_line(written: str | dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ThreatModel.parse(written)
    assert "\n" not in str(caught.value)


def test_l1_projection_is_the_nearest_point_of_the_ball() -> None:
    """Against an independent solver: bisection on the common amount taken off each entry."""
    generator = torch.Generator().manual_seed(0)
    x = torch.full((5, 1, 4, 4), 0.5, dtype=torch.float64)
    far = x + 0.4 * (torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.5)
    got = ThreatModel(norm="l1", eps=0.7).project(far, x)
    delta = (far - x).flatten(1)
    low, high = torch.zeros(5, 1, dtype=torch.float64), delta.abs().amax(1, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        over = (delta.abs() - middle).clamp_min(0).sum(1, keepdim=True) > 0.7
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    expected = delta.sign() * (delta.abs() - high).clamp_min(0)
    assert torch.allclose((got - x).flatten(1), expected, atol=1e-9)
    inside = x + 0.01 * (far - x)
    assert torch.allclose(ThreatModel(norm="l1", eps=0.7).project(inside, x), inside)


@pytest.mark.parametrize(
    ("written", "norm"),
    [
        *[(text, "linf") for text in ("inf", "L-inf", "l_inf", "Linf", "LINF ", "infinity", "L\u221e")],
        *[("l_2", "l2"), ("2", "l2"), ("L-1", "l1"), ("Corruption", "corruption")],
    ],
)
def test_a_norm_is_known_however_it_is_written(written: str, norm: str) -> None:
    assert ThreatModel(written, 0.5).norm == norm
    if norm != "corruption":
        assert build({"norm": written, "eps": "1/2"}).norm == norm


@pytest.mark.parametrize("norm", ["l0", "l3", "linfl2"])
def test_another_norm_is_refused(norm: str) -> None:
    with pytest.raises(UsageError, match="valid: linf, l2, l1"):
        build({"norm": norm})


@pytest.mark.parametrize("eps", ["0,03", "8px", "\u00bd", "4/255/2", ""])
def test_a_radius_that_is_no_number_says_what_is(eps: str) -> None:
    with pytest.raises(UsageError, match=r"is not a number or a fraction such as 4/255"):
        build({"eps": eps})
