"""What holds for every detector of this distribution, in several settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import robustbench_med as rbmed
from robustbench_med.plugins.registry import Registry
from robustbench_med.testing import ToyClassifier

DETECTORS = [entry.spec.name for entry in Registry(only=["rbmed-detectors"]).entries("detector")]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "mae": [
        {"pool": "max", "masks": 2},
        {"pool": "topk", "topk": 0.2},
        {"score": "consistency", "reference": "reconstruction"},
        {"score": "consistency", "references": 2},
        {"score": "combined", "reference": "purified"},
        {"score": "combined", "reference": "reconstruction", "pool": "max"},
    ],
    "dram": [{"statistic": "mean", "draws": 16}],
    "feature-squeezing": [{"bits": 0, "median": 3}, {"bits": 1, "median": 0}, {"non_local": 4.0}],
    "mahalanobis": [{"shrinkage": 0.1}],
    "knn": [{"k": 1, "normalize": False, "bank": 10}],
    "disagreement": [{"divergence": "flip", "copies": 3}, {"divergence": "l1"}],
    "diffusion-error": [{"copies": 3, "strength": 1.0}],
}
CASES = [(name, params) for name in DETECTORS for params in [{}, *SETTINGS.get(name, [])]]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
every = pytest.mark.parametrize(("name", "params"), CASES)


@pytest.fixture
def fitted(make, split, system):
    """Builds a detector that has learned from the client's images, if it does."""

    def build(name: str, params: dict[str, Any], device: str = "cpu") -> rbmed.Detector:
        made = make(name, **params).to(device)
        if type(made).fit is not rbmed.Part.fit:
            made.fit(split, system, rbmed.TrainJob(device=torch.device(device)))
        return made

    return build


@every
@pytest.mark.parametrize("device", DEVICES)
def test_scores_are_one_finite_number_per_image(fitted, system, smooth, stream, name, params, device) -> None:
    system.classifier.to(device)
    scores = fitted(name, params, device).score(smooth(5).to(device), system, stream(5, device=device))
    assert scores.shape == (5,)
    assert scores.dtype == torch.float32
    assert scores.device.type == device
    assert scores.isfinite().all()


@every
def test_a_score_does_not_depend_on_the_batch(fitted, system, smooth, stream, name, params) -> None:
    made, x = fitted(name, params), smooth(5)
    together = made.score(x, system, stream(5))
    alone = torch.cat([made.score(x[i : i + 1], system, stream(5)[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=1e-4)


@every
def test_repeats_exactly_and_leaves_the_global_generator_alone(fitted, system, smooth, stream, name, params) -> None:
    made, x = fitted(name, params), smooth(4)
    first = made.score(x, system, stream(4))
    torch.manual_seed(12345)
    state = torch.get_rng_state()
    assert torch.equal(made.score(x, system, stream(4)), first)
    assert torch.equal(torch.get_rng_state(), state)


@every
def test_stochastic_says_whether_the_stream_matters(fitted, system, smooth, stream, name, params) -> None:
    made, x = fitted(name, params), smooth(20)
    one, two = made.score(x, system, stream(20)), made.score(x, system, stream(20, "another"))
    assert torch.equal(one, two) is not made.stochastic


@every
def test_gradients_are_finite_and_an_images_own(fitted, system, smooth, stream, name, params) -> None:
    x = smooth(4).requires_grad_()
    scores = fitted(name, params).score(x, system, stream(4))
    if name == "random":
        assert not scores.requires_grad
        return
    (gradient,) = torch.autograd.grad(scores[1], x)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).any(1).tolist() == [False, True, False, False]


@every
def test_an_error_map_has_the_size_of_the_image(fitted, system, smooth, stream, name, params) -> None:
    x = smooth(3)
    shown = fitted(name, params).error_map(x, system, stream(3))
    assert (shown is not None) == (name in ("mae", "diffusion-error"))
    if shown is not None:
        assert shown.shape == (3, *x.shape[-2:])
        assert shown.min() >= 0


@every
def test_what_is_trained_has_its_strategy_and_what_is_fitted_its_state(fitted, make, name, params) -> None:
    made = fitted(name, params)
    trained = type(made).learner is not rbmed.Part.learner
    assert trained == hasattr(made.params, "training")
    if trained:
        assert set(made.learner(rbmed.System(ToyClassifier())).state_dict()) <= set(made.state_dict())
    assert bool(made.state_dict()) == (trained or type(made).fit is not rbmed.Part.fit)
    assert made.state_dict().keys() == make(name, **params).state_dict().keys()


def test_parts_on_the_autoencoder_share_what_it_depends_on(make) -> None:
    parts = [make("mae"), make("dram"), make("mae-repair", "purifier")]

    def depends(part: rbmed.Part) -> dict[str, Any]:
        fields = type(part.params).model_fields
        return {k: v for k, v in part.params.model_dump().items() if not fields[k].json_schema_extra}

    assert [part.family for part in parts] == ["mae"] * 3
    assert depends(parts[0]) == depends(parts[1]) == depends(parts[2])
    assert "mask_ratio" in depends(parts[0])
    states = [set(part.learner(rbmed.System(ToyClassifier())).state_dict()) for part in parts]
    assert states[0] == states[1] == states[2]
