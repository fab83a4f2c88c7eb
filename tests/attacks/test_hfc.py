"""HFC against detectors of features: a trained net, fitted detectors, the harness's own scoring."""

from __future__ import annotations

import pytest
import torch
from helpers.attacks import REGISTRY, accuracy, rung, settings
from torch import Tensor, nn

from robustbench_med import Split
from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.features import CleanFeatures, features
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import PipelineTarget, TargetSettings
from robustbench_med.defenses.gates import fix_gate
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import BadParameter, NotDefined
from robustbench_med.interfaces.defense import Detector, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import Outcome
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.interfaces.training import Classifier, TrainJob
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import parse

THREAT = ThreatModel(eps=0.2, access="boundary")


class Net(Classifier):
    """Two convolutions and 24 features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(256, 24), nn.ReLU())
        self.head = nn.Linear(24, 2)

    def embed(self, x: Tensor) -> Tensor:
        return self.last(self.body(x - 0.4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))


def scans(n: int, seed: int) -> Split:
    """Smooth 16 x 16 images, half of them with a bright spot."""
    chance = torch.Generator().manual_seed(seed)
    coarse = torch.rand((n, 1, 4, 4), generator=chance)
    x = 0.25 + 0.3 * nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear", align_corners=False)
    y = torch.arange(n) % 2
    place = torch.randint(2, 14, (n, 2), generator=chance).float()
    grid = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij"))
    far = (grid[None] - place[:, :, None, None]).square().sum(1, keepdim=True)
    x = x + 0.4 * y[:, None, None, None] * torch.exp(-far / 4) + 0.03 * torch.randn(x.shape, generator=chance)
    return Split(x.clamp(0, 1), y, tuple(f"{seed}-{i}" for i in range(n)), ("here",) * n)


@pytest.fixture(scope="module")
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, split = Net(), scans(600, 0)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(120):
            rows = torch.randint(len(split), (100,))
            optimizer.zero_grad()
            model.loss(split.images[rows], split.labels[rows]).backward()
            optimizer.step()
    return model.eval()


def guarded(net: Net, name: str) -> Pipeline:
    """The net behind a fitted detector that rejects 5 % of clean images."""
    detector: Detector = create(REGISTRY, "detector", parse(name))
    detector.build(1, 16)
    system = System(net)
    with torch.no_grad():
        detector.fit(scans(600, 0), system, TrainJob())
        images = scans(200, 1).images
        scores = detector.score(images, system, Stream.named("calibration", 0, torch.arange(len(images))))
    return Pipeline(net, detector, None, fix_gate(scores, 0.05))


def attacked(pipeline: Pipeline, access: str, attack: str) -> Outcome:
    test = scans(80, 2)
    how = settings(rung(access, attack), threat=THREAT, clean=lambda: scans(600, 0))
    return measure(pipeline, test, torch.arange(len(test)), how)


def auroc(outcome: Outcome) -> float:
    clean, after = outcome.clean.scores[0], outcome.attacked.scores[0]
    return float((after[:, None] > clean).float().mean() + (after[:, None] == clean).float().mean() / 2)


@pytest.mark.parametrize("name", ["mahalanobis", "knn"])
def test_it_evades_detectors_of_features_that_flag_pgd(net: Net, name: str) -> None:
    pipeline = guarded(net, name)
    plain, hidden = attacked(pipeline, "oblivious", "pgd:steps=40"), attacked(pipeline, "boundary", "hfc")
    assert float((plain.clean.predictions[0] == plain.labels).float().mean()) > 0.9
    assert accuracy(hidden) < accuracy(plain) - 0.3
    assert accuracy(hidden) < 0.1
    assert auroc(plain) > 0.75
    assert auroc(hidden) < auroc(plain) - 0.3
    assert int(hidden.gradients.max()) == 100  # 50 of the loss and 50 of the features


def target(pipeline: Pipeline, access: str, **more: object) -> PipelineTarget:
    x = scans(4, 2)
    counter = QueryCounter(x.images, x.labels, THREAT, Budget())
    settings = TargetSettings(pipeline, counter, **more)  # type: ignore[arg-type]
    return target_for(settings, access, Stream.named("noise", 0, torch.arange(4)))


def test_features_are_shown_to_those_who_see_the_classifier(net: Net) -> None:
    clean = CleanFeatures(net, lambda: scans(40, 0), torch.device("cpu"))
    for access in ("oblivious", "boundary", "bpda", "gate", "full"):
        seen = target(guarded(net, "knn"), access, clean=clean)
        x = scans(4, 2).images.requires_grad_()
        (found,) = seen.features(x)
        assert torch.allclose(found, net.embed(x), atol=1e-5)
        found.sum().backward()
        assert seen.settings.counter.queries.tolist() == seen.settings.counter.gradients.tolist() == [1] * 4
        (held,), labels = seen.clean_features()
        assert torch.allclose(held, net.embed(scans(40, 0).images), atol=1e-5)
        assert torch.equal(labels, scans(40, 0).labels)
    for access in ("transfer", "insider", "query"):
        hidden = target(guarded(net, "knn"), access, clean=clean)
        for ask in (lambda hidden=hidden: hidden.features(scans(4, 2).images), hidden.clean_features):
            with pytest.raises(NotDefined, match="does not see the features"):
                ask()


def test_layers_are_read_by_name(net: Net) -> None:
    x = scans(4, 2).images
    maps, last = features(net, x, ("body.2", "last"))
    assert torch.allclose(maps, net.body[:3](x - 0.4).mean((2, 3)))
    assert torch.equal(last, net.embed(x))
    with pytest.raises(BadParameter, match="no layer 'layer1'; it has body, "):
        features(net, x, ("layer1",))


def test_without_clean_images_of_another_class_it_says_so(net: Net) -> None:
    def zeros() -> Split:
        split = scans(40, 0)
        return split.select((split.labels == 0).nonzero().flatten())

    test = scans(8, 2)
    how = settings(rung("boundary", "hfc:steps=2"), threat=THREAT, clean=zeros)
    with pytest.raises(NotDefined, match="all of one class"):
        measure(guarded(net, "knn"), test, torch.arange(8), how)
