"""The rung `insider`: an attack computed on the other clients' classifiers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.paths import TOY

import robustbench_med as rbmed
from robustbench_med.defenses.artifact import load_state, save_state, seal
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.insider import MeanLogits, insider, no_insider
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.grid.config import build
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.runner.preview import Preview
from robustbench_med.training.loader import Loader

BASE = {"dataset": "stripes", "baseline": "", "surrogate": "bare", "eps": "1/10", "attack": "shift"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The toy plugin, trained with one classifier for all clients and with one for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(tmp_path_factory.mktemp("home")))
        registry = Registry(files=[TOY])
        for strategy in (None, "own"):
            rbmed.train_defense("bare", "stripes", strategy=strategy, registry=registry)
        yield registry


def deployed(toys: Registry, strategy: str | None) -> Deployment:
    ref = TrainedRef(parse("bare"), parse("stripes"), None, strategy and parse(strategy))
    return Loader(toys, torch.device("cpu")).deployment(ref)


def test_it_holds_the_other_clients_classifiers_alone(toys: Registry) -> None:
    deployment = deployed(toys, "own")
    x = deployment.dataset.split("test").images
    other = deployment.classifier("site-1")
    assert torch.equal(insider(deployment, "site-0")(x), other(x))
    assert not torch.allclose(insider(deployment, "site-0")(x), deployment.classifier("site-0")(x))
    both = MeanLogits([deployment.classifier("site-0"), other])
    assert torch.allclose(both(x), (deployment.classifier("site-0")(x) + other(x)) / 2)


def test_what_the_target_keeps_is_not_seen(toys: Registry) -> None:
    """Whatever the target's own state and the mean that it enters into, the attacker holds the same."""
    deployment = deployed(toys, "own")
    x = deployment.dataset.split("test").images
    before, own = insider(deployment, "site-0")(x), deployment.classifier("site-0")(x)
    folder = deployment.artifact.folder
    names = [folder / "clients" / "site-0.safetensors", folder / "classifier.safetensors"]
    kept = {path: (path.read_bytes(), load_state(path)) for path in names}
    manifest = deployment.artifact.manifest
    try:
        for path, (_, state) in kept.items():
            save_state(path, {name: tensor + 1 for name, tensor in state.items()})
        seal(folder, manifest)
        changed = deployed(toys, "own")
        assert not torch.allclose(changed.classifier("site-0")(x), own)
        assert torch.equal(insider(changed, "site-0")(x), before)
    finally:
        for path, (data, _) in kept.items():
            path.write_bytes(data)
        seal(folder, manifest)


def test_images_made_on_other_clients_are_judged_by_the_target(toys: Registry, tmp_path: Path) -> None:
    (record,) = rbmed.evaluate(
        registry=toys, defense="bare", strategy="own", access="insider", diagnostics="off", out=tmp_path, **BASE
    )
    deployment = deployed(toys, "own")
    split, right = deployment.dataset.split("test"), 0
    for client, own in split.by_site().items():
        x = own.images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(insider(deployment, client)(x), own.labels, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x)
        moved = (x + 0.1 * grad.sign()).clamp(0, 1)
        right += int((deployment.classifier(client)(moved).argmax(1) == own.labels).sum())
    assert record.metrics["robust_accuracy"] == pytest.approx(right / len(split))
    assert record.spent.gradients_max == 1


@pytest.mark.parametrize("access", ["insider", "ladder:standard"])
def test_it_is_left_out_where_all_clients_hold_the_same(toys: Registry, tmp_path: Path, access: str) -> None:
    asked = {**BASE, "defense": "bare", "access": access, "limit": 4, "out": tmp_path, "diagnostics": "off"}
    (record,) = rbmed.evaluate(registry=toys, **asked)
    reason = "all clients hold the same classifier, which `oblivious` attacks"
    if access == "insider":
        assert (record.status, record.reason) == ("skipped", reason)
    else:
        assert {rung.access: rung.reason for rung in record.rungs}["insider"] == reason
        assert record.status == "ok"


def test_one_client_has_no_insider(toys: Registry) -> None:
    deployment = deployed(toys, "own")
    assert no_insider(deployment) is None
    deployment.artifact.manifest["clients"] = ["site-0"]
    assert no_insider(deployment) == "the federation has one client, so that there is no attacker inside it"


def test_a_preview_names_the_cell_and_its_cost(toys: Registry, tmp_path: Path) -> None:
    options = {**BASE, "defense": "bare", "strategy": ["pooled", "own"], "access": "insider", "out": tmp_path}
    skipped, item = Preview(build(options), toys).items()
    assert skipped.state == "skip"
    assert item.cost is not None
    assert (item.cost.gradients, item.cost.seconds > 0) == (item.images, True)
    _, record = rbmed.evaluate(registry=toys, **options)
    assert record.cell_id == item.cell_id
