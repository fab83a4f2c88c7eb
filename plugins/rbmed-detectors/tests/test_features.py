"""Detectors on the classifier's features: against scikit-learn, what they store, what they cannot do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_detectors.features import chosen, ledoit_wolf
from robustbench_med.errors import BadParameter, NotDefined, WeightsError
from robustbench_med.testing import ToyClassifier

JOB = rbmed.TrainJob()
FITTED = ["mahalanobis", "knn"]


def features(system: rbmed.System, x: Tensor) -> np.ndarray:
    return system.classifier.embed(x).double().detach().numpy()


def centred(system: rbmed.System, split: rbmed.Split) -> tuple[np.ndarray, np.ndarray]:
    """Means of the classes, and the features around them."""
    found, labels = features(system, split.images), split.labels.numpy()
    means = np.stack([found[labels == k].mean(0) for k in np.unique(labels)])
    return means, found - means[labels]


@pytest.mark.parametrize("shrinkage", [0.0, None])
def test_mahalanobis_against_scikit_learn(make, split, system, smooth, stream, shrinkage) -> None:
    made = make("mahalanobis", shrinkage=shrinkage)
    facts = made.fit(split, system, JOB)
    means, around = centred(system, split)
    model = (EmpiricalCovariance if shrinkage == 0 else LedoitWolf)(assume_centered=True).fit(around)
    assert facts["classes"] == 3
    assert facts["shrinkage"] == pytest.approx(getattr(model, "shrinkage_", 0.0))
    x = smooth(30, seed=8)
    expected = np.stack([model.mahalanobis(features(system, x) - mean) for mean in means]).min(0)
    torch.testing.assert_close(made.score(x, system, stream(30)), torch.tensor(expected).float(), rtol=1e-4, atol=1e-4)


def test_ledoit_wolf_against_scikit_learn_with_fewer_images_than_features() -> None:
    x = torch.randn(12, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.linspace(1, 3, 40)
    assert ledoit_wolf(x) == pytest.approx(LedoitWolf(assume_centered=True).fit(x.numpy()).shrinkage_)
    assert 0.1 < ledoit_wolf(x) < 1


def test_mahalanobis_knows_the_classes_that_the_client_has(make, split, system, smooth, stream) -> None:
    rows = (split.labels != 1).nonzero().flatten()
    made = make("mahalanobis")
    assert made.fit(split.select(rows), system, JOB)["classes"] == 2
    assert made.score(smooth(4), system, stream(4)).isfinite().all()


def test_a_singular_covariance_is_refused(make, split, system) -> None:
    few = split.select(torch.arange(6))
    with pytest.raises(BadParameter, match=r"covariance of 6 images with shrinkage=0 is singular; raise shrinkage"):
        make("mahalanobis", shrinkage=0.0).fit(few, system, JOB)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("k", [1, 7])
def test_nearest_neighbours_against_scikit_learn(make, split, system, smooth, stream, k, normalize) -> None:
    made = make("knn", k=k, normalize=normalize)
    assert made.fit(split, system, JOB) == {"images": 60}
    bank, x = features(system, split.images), smooth(30, seed=8)
    here = features(system, x)
    if normalize:
        bank, here = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (bank, here))
    expected = NearestNeighbors(n_neighbors=k).fit(bank).kneighbors(here)[0][:, -1]
    torch.testing.assert_close(made.score(x, system, stream(30)), torch.tensor(expected).float(), rtol=1e-4, atol=1e-6)


def test_a_known_image_is_its_own_neighbour(make, split, system, stream) -> None:
    made = make("knn", k=1)
    made.fit(split, system, JOB)
    x = split.images[:5].clone().requires_grad_()
    scores = made.score(x, system, stream(5))
    assert scores.max() < 1e-6
    scores.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_bank_keeps_no_more_than_it_may(make, split, system, smooth, stream) -> None:
    made = make("knn", k=9, bank=8)
    assert made.fit(split, system, JOB) == {"images": 8}
    rows = chosen(60, 8, rbmed.seed_of(JOB.seed, "knn"))
    assert torch.equal(made.features, system.classifier.embed(split.images[rows]))
    farthest = make("knn", k=8, bank=8)
    farthest.fit(split, system, JOB)
    x = smooth(5)
    assert torch.equal(made.score(x, system, stream(5)), farthest.score(x, system, stream(5)))


def test_a_choice_of_images_is_repeatable_and_depends_on_the_seed() -> None:
    assert chosen(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(chosen(100, 9, 1), chosen(100, 9, 1))
    assert not torch.equal(chosen(100, 9, 1), chosen(100, 9, 2))
    assert len(chosen(100, 9, 1).unique()) == 9


@pytest.mark.parametrize("name", FITTED)
def test_images_unlike_the_known_ones_score_higher(make, split, system, smooth, stream, name) -> None:
    made = make(name)
    made.fit(split, system, JOB)
    noise = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0)).round()
    clean, strange = (made.score(x, system, stream(40)) for x in (smooth(40, seed=8), noise))
    assert (strange[:, None] > clean).float().mean() > 0.9


@pytest.mark.parametrize("name", FITTED)
def test_scores_survive_the_way_states_are_stored(make, split, system, smooth, stream, name) -> None:
    made, x = make(name), smooth(20, seed=8)
    # Features of very different size: a covariance that half precision could not hold.
    system.classifier.body.weight.mul_(torch.logspace(-3, 0, 8)[:, None])
    made.fit(split, system, JOB)
    before = made.score(x, system, stream(20))
    for key, value in made.state_dict().items():
        setattr(made, key, value.half().float() if value.dtype == torch.float32 else value)
    torch.testing.assert_close(made.score(x, system, stream(20)), before, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("name", [*FITTED, "dram"])
def test_what_has_not_been_fitted_says_so(make, system, smooth, stream, name) -> None:
    with pytest.raises(WeightsError, match=f"detector {name} has not been fitted"):
        make(name).score(smooth(1), system, stream(1))


@pytest.mark.parametrize("name", FITTED)
def test_a_classifier_without_features_is_refused(make, split, name) -> None:
    class Featureless(rbmed.Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(256, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(x.flatten(1))
            return logits

    with pytest.raises(NotDefined, match="Featureless offers no features"):
        make(name).fit(split, rbmed.System(Featureless()), JOB)
    assert make(name).needs == ("classifier",)


def test_fitting_follows_the_job(make, split, system) -> None:
    one, two = make("knn", bank=8), make("knn", bank=8)
    one.fit(split, system, JOB)
    two.fit(split, system, replace(JOB, seed=1))
    assert not torch.equal(one.features, two.features)
    assert not one.features.requires_grad
    assert isinstance(ToyClassifier(), rbmed.Classifier)
