"""MI-FGSM against a linear model, whose exact robustness is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rbmed_example.mifgsm import MIFGSM
from robustbench_med import Budget, Stream, Surface, ThreatModel
from robustbench_med.errors import BudgetExceeded


class Linear(Surface):
    """Two classes, logits (0, w.x + b); counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.head = nn.Linear(16, 1)
        self.head.weight.data = torch.randn(1, 16, generator=generator)
        self.head.bias.data = -0.5 * self.head.weight.data.sum(1)
        self.asked = 0

    def margin(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)).squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        margin = self.margin(x)
        return torch.stack([torch.zeros_like(margin), margin], 1)


@pytest.fixture
def surface() -> Linear:
    return Linear()


@pytest.fixture
def batch(surface: Linear) -> tuple[Tensor, Tensor]:
    """Images well inside [0, 1], so that the range never limits the attack, with the model's own answers as labels."""
    x = 0.4 + 0.2 * torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return x, surface(x).argmax(1)


def attack(surface: Linear, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, **params: float) -> Tensor:
    rng = Stream.named("attack", 0, torch.arange(len(x)))
    return MIFGSM(MIFGSM.Params.model_validate(params)).run(surface, x, y, threat, budget, rng)


@pytest.mark.parametrize(("norm", "dual", "eps"), [("linf", 1, 0.012), ("l2", 2, 0.04)])
def test_breaks_exactly_the_images_that_can_be_broken(
    surface: Linear, batch: tuple[Tensor, Tensor], norm: str, dual: int, eps: float
) -> None:
    x, y = batch
    threshold = (surface.margin(x).abs() / surface.head.weight.norm(p=dual)).detach()
    assert 0.1 < (threshold < eps).float().mean() < 0.9, "the test must have both outcomes"
    threat = ThreatModel(norm=norm, eps=eps)
    x_adv = attack(surface, x, y, threat, Budget())
    threat.check(x_adv, x)
    torch.testing.assert_close(surface(x_adv).argmax(1) != y, threshold < eps)


@pytest.mark.parametrize(
    ("budget", "draws", "calls"),
    [
        (Budget(), 1, 11),  # ten gradients, and one look at the last iterate
        (Budget(gradients=3), 1, 4),
        (Budget(gradients=8), 2, 5),
        (Budget(queries=3), 1, 3),
    ],
)
def test_keeps_to_the_budget(
    surface: Linear, batch: tuple[Tensor, Tensor], budget: Budget, draws: int, calls: int
) -> None:
    x, y = batch
    surface.asked, surface.draws = 0, draws
    attack(surface, x, y, ThreatModel(), budget)
    assert surface.asked == calls


@pytest.mark.parametrize("budget", [Budget(gradients=0), Budget(queries=1)])
def test_a_budget_without_a_single_step_is_refused(
    surface: Linear, batch: tuple[Tensor, Tensor], budget: Budget
) -> None:
    x, y = batch
    with pytest.raises(BudgetExceeded, match="a single step"):
        attack(surface, x, y, ThreatModel(), budget)


def test_an_image_without_gradient_stays_finite(surface: Linear, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    surface.head.weight.data.zero_()
    torch.testing.assert_close(attack(surface, x, y, ThreatModel(), Budget()), x)


def test_an_image_is_attacked_alike_alone_and_in_a_batch(surface: Linear, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    together = attack(surface, x, y, ThreatModel(), Budget())
    alone = attack(surface, x[5:6], y[5:6], ThreatModel(), Budget())
    torch.testing.assert_close(together[5:6], alone)


def test_more_eps_never_helps_the_defender(surface: Linear, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    broken = [
        (surface(attack(surface, x, y, ThreatModel(eps=eps), Budget())).argmax(1) != y).sum().item()
        for eps in (0.01, 0.02, 0.05, 0.3)
    ]
    assert broken == sorted(broken)
    assert broken[-1] == len(x)
