"""Models whose weights are stored in another precision than that of images."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from rbmed_models.foreign.classifier import Foreign
from rbmed_models.foreign.params import ForeignParams
from robustbench_med.errors import BadParameter

DTYPES = [torch.float16, torch.bfloat16, torch.float64]


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2))


def images() -> torch.Tensor:
    return torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_module_of_another_precision_is_run_in_float32(dtype: torch.dtype) -> None:
    narrow = net().to(dtype)
    built = Foreign(copy.deepcopy(narrow), ForeignParams(mean=(0.5,), std=(0.25,)), 2, 1, 32, notes=())
    named = str(dtype).removeprefix("torch.")
    assert f"its weights are {named}, and images float32: it is run in float32" in "; ".join(built.notes)
    given = images().requires_grad_()
    answer = built(given)
    torch.testing.assert_close(answer, narrow.float()((images() - 0.5) / 0.25))
    answer.sum().backward()
    assert given.grad is not None
    assert given.grad.abs().max() > 0


class Casting(nn.Module):
    """Turns images to its own precision, or to another one, which fails."""

    def __init__(self, to: torch.dtype) -> None:
        super().__init__()
        self.inner, self.to_ = net().half(), to

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.inner(x.to(self.to_))
        return made


def test_a_module_that_casts_images_itself_stays_as_it_is() -> None:
    built = Foreign(Casting(torch.float16), ForeignParams(), 2, 1, 32, notes=())
    assert next(built.body.parameters()).dtype == torch.float16
    assert "float32" not in "; ".join(built.notes)


def test_what_fails_in_float32_too_is_refused() -> None:
    with pytest.raises(BadParameter, match="fails on images of 1 x 32 x 32: RuntimeError"):
        Foreign(Casting(torch.bfloat16), ForeignParams(), 2, 1, 32, notes=())
