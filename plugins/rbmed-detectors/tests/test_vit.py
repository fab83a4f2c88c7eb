"""The blocks of the masked autoencoder beside timm's."""

from __future__ import annotations

import pytest
import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block as TimmBlock

from rbmed_detectors.vit import Block, MaskedAutoencoder


@pytest.mark.parametrize(("width", "heads", "grid"), [(128, 4, 8), (16, 4, 3)])
def test_a_block_equals_that_of_timm(width: int, heads: int, grid: int) -> None:
    torch.manual_seed(1)
    ours = Block(width, heads)
    torch.manual_seed(1)
    theirs = TimmBlock(width, heads, qkv_bias=True)
    own, other = ours.state_dict(), theirs.state_dict()
    assert list(own) == list(other)
    assert all(torch.equal(own[name], other[name]) for name in own)
    x = torch.randn(3, grid**2, width, requires_grad=True)
    found, expected = ours(x), theirs(x)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(made.square().sum(), x)[0] for made in (found, expected)))
    whole = MaskedAutoencoder(1, grid * 2, 2, width, 1, width, 1, heads)
    assert torch.equal(whole.place, build_sincos2d_pos_embed([grid, grid], width))
