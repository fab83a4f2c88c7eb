"""The architectures: shapes, gradients, the mixture's formula and its loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_models.moe import MoEClassifier, MoEModel, MoEParams, ParallelMLPs
from rbmed_models.resnet import ResNetModel, ResNetParams
from robustbench_med.errors import BadParameter

Kind = type[ResNetModel] | type[MoEModel]
KINDS = [ResNetModel, MoEModel]


def build(kind: Kind, classes: int = 2, channels: int = 1, size: int = 32, **params: Any) -> rbmed.Classifier:
    torch.manual_seed(0)
    return kind(kind.Params(width=8, **params)).build(classes, channels, size)


def images(n: int, channels: int = 1, size: int = 32) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_parameter_and_the_image_get_a_gradient(kind: Kind, norm: str) -> None:
    model = build(kind, norm=norm).train()
    # The residual branches start at zero, so that their inner weights get a gradient from the second step on only.
    for name, parameter in model.named_parameters():
        if name.endswith("bn2.weight"):
            nn.init.ones_(parameter)
    x = images(4).requires_grad_()
    model.loss(x, torch.tensor([0, 1, 0, 1])).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert x.grad is not None
    assert x.grad.flatten(1).any(1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_storage_is_harmless(kind: Kind) -> None:
    model, x = build(kind).eval(), images(4)
    before = model(x)
    model.load_state_dict({k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()})
    torch.testing.assert_close(model(x), before, atol=5e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_training_separates_two_easy_classes(kind: Kind) -> None:
    model = build(kind).train()
    y = torch.arange(32) % 2
    x = (0.3 * images(32) + 0.4 * y.view(-1, 1, 1, 1)).clamp(0, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        model.loss(x, y).backward()
        optimizer.step()
    assert float((model.eval()(x).argmax(1) == y).float().mean()) == 1.0


def test_without_pooling_features_are_twice_as_fine() -> None:
    shapes = []
    for model in (build(ResNetModel), build(ResNetModel, pool=False)):
        model.features.body.layer4.register_forward_hook(lambda layer, given, maps: shapes.append(maps.shape[-1]))
        model(images(1, size=64))
    assert shapes == [2, 4]


def test_normalisation_is_inside() -> None:
    plain, shifted = build(ResNetModel, mean=0.0, std=1.0).eval(), build(ResNetModel, mean=0.5, std=0.25).eval()
    x = images(2)
    torch.testing.assert_close(shifted(x), plain((x - 0.5) / 0.25))


def test_parallel_perceptrons_equal_separate_ones() -> None:
    torch.manual_seed(0)
    many, x = ParallelMLPs(3, 5, 7, 2), torch.randn(4, 5)
    for k in range(3):
        one = F.relu(x @ many.weight1[k] + many.bias1[k]) @ many.weight2[k] + many.bias2[k]
        torch.testing.assert_close(many(x)[k], one)


def test_mixture_and_loss_follow_the_paper() -> None:
    model = build(MoEModel, classes=3, beta=0.01, gamma=0.5).eval()
    assert isinstance(model, MoEClassifier)
    x, y = images(6), torch.arange(6) % 3
    features = model.features(x)
    alpha = model.gates(features)[:, :, 0].softmax(0)
    logits = torch.einsum("kn,knc->nc", alpha, model.experts(features))
    torch.testing.assert_close(model(x), logits)
    entropy = -(alpha * alpha.log()).sum(0).mean()
    norm = sum(p.square().sum() for p in model.gates.parameters())
    torch.testing.assert_close(model.loss(x, y), F.cross_entropy(logits, y) + 0.01 * norm + 0.5 * entropy)


def test_only_local_gates_are_personal() -> None:
    model = build(MoEModel)
    mine = {name for name in model.state_dict() if name.startswith(model.personal)}
    assert mine == {f"gates.{name}" for name in ("weight1", "bias1", "weight2", "bias2")}
    assert build(MoEModel, gate="shared").personal == ()
    assert build(ResNetModel).personal == ()


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_whatever_follows_the_features(kind: Kind) -> None:
    model, x = build(kind).eval(), images(4)
    assert all(any(name.startswith(head) for name in model.state_dict()) for head in model.heads)
    body = {name for name in model.state_dict() if not name.startswith(model.heads)}
    assert body == {f"features.{name}" for name in model.get_submodule("features").state_dict()}
    # Without the heads' weights the logits are 0.
    assert not torch.allclose(model(x)[0], model(x)[1], atol=1e-6)
    model.load_state_dict({k: v if k in body else torch.zeros_like(v) for k, v in model.state_dict().items()})
    assert torch.equal(model(x), torch.zeros(4, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_what_the_heads_see(kind: Kind) -> None:
    model, x = build(kind).eval(), images(4)
    features = model.embed(x)
    assert features.shape == (4, 64)
    assert features.flatten(1).any(1).all()
    # With the feature extractor out of the way, the heads alone give the same logits.
    model.set_submodule("features", nn.Identity())
    torch.testing.assert_close(model(features), build(kind).eval()(x))


def test_published_hyperparameters_are_the_defaults() -> None:
    params = MoEParams()
    assert (params.experts, params.expert_hidden, params.gate_hidden) == (3, 256, 64)
    assert (params.beta, params.gamma) == (1e-4, 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_images_too_small_for_the_strides_are_refused(kind: Kind) -> None:
    with pytest.raises(BadParameter, match=r"16 px are too small .* at least 32 px"):
        build(kind, size=16)


def test_a_width_that_groups_do_not_divide_is_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of 8"):
        ResNetParams(width=12)
