"""The layers of our ResNet beside timm's."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from timm.layers.norm import GroupNorm
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from rbmed_models.resnet import Features, ResNetParams


@pytest.mark.parametrize("params", [{}, {"layers": 2, "width": 16, "norm": "group"}, {"layers": 3, "width": 8}])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_layers_equal_those_of_timm(params: dict[str, Any], channels: int) -> None:
    p, block = ResNetParams(**params), BasicBlock
    torch.manual_seed(3)
    ours = Features(p, channels)
    torch.manual_seed(3)
    theirs = ResNet(
        block,
        (p.layers,) * 4,
        num_classes=0,
        in_chans=channels,
        channels=tuple(p.width * factor for factor in (1, 2, 4, 8)),
        stem_type="deep",
        stem_width=p.width // 2,
        norm_layer=nn.BatchNorm2d if p.norm == "batch" else partial(GroupNorm, num_groups=4),
    )
    own, other = ours.body.state_dict(), theirs.state_dict()
    assert list(own) == list(other)
    assert all(torch.equal(own[name], other[name]) for name in own)
    x = torch.rand(5, channels, 64, 64, requires_grad=True)
    for training in (True, False):
        found, expected = ours.train(training)(x), theirs.train(training)((x - p.mean) / p.std)
        assert torch.equal(found, expected)
        assert torch.equal(*(torch.autograd.grad(made.square().sum(), x)[0] for made in (found, expected)))
