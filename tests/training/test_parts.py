"""Detectors and purifiers that learn: over the clients, at each client, inside wrappers; and weights that are found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.paths import TOY

import robustbench_med as rbmed
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import BadParameter, UsageError
from robustbench_med.files.paths import home
from robustbench_med.interfaces.defense import Part
from robustbench_med.plugins.registry import Registry

SITES = ("site-0", "site-1")


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    return Registry(files=[TOY])


def load(toys: Registry, name: str, **options: object) -> rbmed.api.Deployment:
    rbmed.train_defense(name, "stripes", registry=toys, **options)
    return rbmed.load_defense(name, "stripes", registry=toys, **options)


def parts() -> set[str]:
    """Names of the parts that were trained here."""
    return {folder.name.partition("-")[0] for folder in (home() / "parts").glob("[!.]*")}


def stream(n: int) -> rbmed.Stream:
    return rbmed.Stream.named("defense", 0, torch.arange(n))


def test_a_strategy_trains_a_detector_on_all_clients(toys: Registry) -> None:
    detector = load(toys, "guarded").pipeline("site-0").detector
    train = rbmed.load_dataset("stripes", registry=toys).split("train")
    torch.testing.assert_close(detector.mean.data, train.images.mean(0), atol=0.01, rtol=0)


def test_each_client_fits_its_own_detector_with_its_own_classifier(toys: Registry) -> None:
    deployment = load(toys, "guarded:detector=margins")
    train = rbmed.load_dataset("stripes", registry=toys).split("train").by_site()
    for client in SITES:
        pipeline = deployment.pipeline(client)
        with torch.no_grad():
            certainty = pipeline.classifier(train[client].images).softmax(1).amax(1)
        torch.testing.assert_close(pipeline.detector.known, certainty)
    assert not torch.equal(*(deployment.pipeline(client).detector.known for client in SITES))
    files = deployment.artifact.manifest["files"]
    assert {"clients/detector/site-0.safetensors", "clients/detector/site-1.safetensors"} < set(files)
    assert "detector.safetensors" not in files


def test_a_fitted_detector_follows_the_classifier(toys: Registry) -> None:
    first = load(toys, "guarded:detector=margins").artifact.manifest["training_keys"]
    second = load(toys, "guarded:detector=margins", strategy="own").artifact.manifest["training_keys"]
    assert first["detector"] != second["detector"]
    shared = [load(toys, "guarded", strategy=name).artifact.manifest["training_keys"] for name in ("pooled", "own")]
    assert shared[0]["detector"] == shared[1]["detector"]


def test_a_site_never_seen_has_no_fitted_detector(toys: Registry) -> None:
    with pytest.raises(UsageError, match=r"'margins' is fitted by each client .* a site never seen has none"):
        load(toys, "guarded:detector=margins", unseen_site="site-1")


def test_what_a_part_needs_it_must_name(toys: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys.load("detector", "margins"), "needs", ())
    with pytest.raises(UsageError, match=r"must declare it: needs = \('classifier',\)"):
        rbmed.train_defense("guarded:detector=margins", "stripes", registry=toys)


def test_training_one_part_trains_what_it_needs(toys: Registry) -> None:
    rbmed.train_defense("guarded:detector=margins,purifier=retouch", "stripes", registry=toys, only=["detector"])
    assert parts() == {"classifier", "detector"}


def test_a_family_shares_what_it_has_learned(toys: Registry) -> None:
    weak, strong = (load(toys, f"guarded:purifier=[retouch:share={share}]").artifact for share in (0.1, 0.9))
    assert weak.folder == strong.folder
    wrapped = load(toys, "guarded:purifier=several").artifact
    assert wrapped.manifest["training_keys"]["purifier"] == weak.manifest["training_keys"]["purifier"]
    assert len(list((home() / "parts").glob("purifier*"))) == 1


def test_a_part_may_learn_over_the_clients_and_then_be_fitted_by_each(toys: Registry) -> None:
    plain = load(toys, "guarded").pipeline("site-0").detector
    deployment = load(toys, "guarded:detector=typical")
    train = rbmed.load_dataset("stripes", registry=toys).split("train").by_site()
    for client in SITES:
        detector = deployment.pipeline(client).detector
        assert torch.equal(detector.mean, plain.mean)
        usual = (train[client].images - plain.mean.detach()).square().flatten(1).mean(1)
        torch.testing.assert_close(detector.usual, usual)
    # What a strategy has trained served both.
    assert len({folder.name for folder in (home() / "parts").glob("detector-*")}) == 2
    manifest = deployment.artifact.manifest
    assert set(manifest["parts"]["detector"]["metrics"]) == {"rounds", "clients"}


def test_a_wrapper_with_two_learned_parts_keeps_both(toys: Registry) -> None:
    name = "guarded:purifier=[several:one=[retouch:share=0],other=[retouch:training=own]]"
    with pytest.raises(BadParameter, match="retouch: training=own combines several classifiers"):
        rbmed.train_defense(name, "stripes", registry=toys)
    deployment = load(toys, "guarded:purifier=[several:one=[retouch:share=0],other=[retouch:share=1]]")
    assert {"purifier.safetensors", "purifier-2.safetensors"} < set(deployment.artifact.manifest["files"])
    x = rbmed.load_dataset("stripes", registry=toys).split("test").images[:3]
    purifier = deployment.pipeline("site-0").purifier
    copies = purifier.copies(x, torch.ones(3), stream(3))
    assert copies.shape == (3, 4, 1, 8, 8)
    assert torch.equal(copies[:, 0], x)
    torch.testing.assert_close(copies[:, 3], purifier.other.mean.data.expand_as(x))


def test_parts_are_taken_from_weights_that_hold_them(toys: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the weights that ship with a defense, when one of its parts is swapped."""
    load(toys, "guarded:detector=margins")
    shutil.rmtree(home() / "parts")
    monkeypatch.setattr(toys.load("strategy", "pooled"), "train", None)  # the classifier is not trained again
    swapped = load(toys, "guarded:detector=margins,purifier=blur,fpr=0.2")
    shutil.rmtree(home() / "parts")
    assert swapped.pipeline("site-0").detector.known.numel() > 0
    with pytest.raises(TypeError):
        rbmed.train_defense("guarded", "stripes", registry=toys)
    assert parts() == {"classifier"}


def test_gates_of_different_detectors_are_kept_apart(toys: Registry) -> None:
    """Even where parameters and weights are equal: a detector is more than its parameters."""
    plain, other = toys.load("detector", "uncertainty"), toys.load("detector", "certainty")
    assert plain.Params is other.Params
    gates = [load(toys, f"guarded:detector={name}").pipeline("site-0").gate for name in ("uncertainty", "certainty")]
    assert gates[0].threshold != gates[1].threshold


def test_a_fixed_strength_does_not_follow_the_score(toys: Registry) -> None:
    follows, fixed = (load(toys, f"guarded:strength={s}").pipeline("site-0") for s in ("none", "0.25"))
    scores = torch.linspace(follows.gate.low, follows.gate.high, 24)
    assert follows.strengths(scores).unique().numel() > 2
    assert fixed.strengths(scores).unique().tolist() == [0.25]
    assert fixed.gate == follows.gate
    ungated = [Pipeline(fixed.classifier, None, fixed.purifier, strength=s) for s in (None, 0.25)]
    assert [pipeline.strengths(scores).unique().tolist() for pipeline in ungated] == [[1.0], [0.25]]


def test_copies_are_judged_together_and_clear_images_once(toys: Registry) -> None:
    pipeline = load(toys, "guarded:purifier=several,fpr=0.5").pipeline("site-0")
    x = rbmed.load_dataset("stripes", registry=toys).split("test").images
    seen: list[int] = []
    pipeline.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    logits = pipeline(x, stream(len(x)))
    treated = pipeline.treat(x, stream(len(x)))
    flagged = int(treated.flagged.sum())
    assert 0 < flagged < len(x)
    assert seen == [len(x) - flagged + 4 * flagged]
    with torch.no_grad():
        torch.testing.assert_close(logits[~treated.flagged], pipeline.classifier(x[~treated.flagged]))
        answers = pipeline.classifier(treated.copies.flatten(0, 1)).softmax(1).unflatten(0, (flagged, 4)).mean(1).log()
    torch.testing.assert_close(logits[treated.rows], answers)
    assert (pipeline.decide(x, stream(len(x))).predictions[0] == logits.argmax(1)).all()


@pytest.mark.parametrize("access", ["bpda", "full", "gate", "query"])
def test_every_rung_sees_several_copies(toys: Registry, tmp_path: Path, access: str) -> None:
    rbmed.train_defense("guarded:purifier=several,fpr=0.5", "stripes", registry=toys)
    rbmed.train_defense("bare", "stripes", registry=toys)
    (record,) = rbmed.evaluate(
        registry=toys,
        dataset="stripes",
        defense="guarded:purifier=several,fpr=0.5",
        baseline="",
        access=access,
        attack="shift" if access != "query" else "square:queries=20",
        eps="1/20",
        eot=3,
        surrogate="bare",
        out=tmp_path / "out",
    )
    assert record.status == "ok"


def test_a_purifier_without_gradient_has_no_exact_rungs(
    toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toys.load("purifier", "blur"), "differentiable", False)
    rbmed.train_defense("guarded", "stripes", registry=toys)
    records = rbmed.evaluate(
        registry=toys,
        dataset="stripes",
        defense="guarded",
        baseline="",
        access=["full", "bpda"],
        attack="shift",
        eps="1/20",
        surrogate="bare",
        out=tmp_path / "out",
    )
    assert [record.status for record in records] == ["skipped", "ok"]
    assert "'blur' has no gradient" in str(records[0].reason)


def test_a_part_answers_as_its_interface_says() -> None:
    class Plain(rbmed.Detector):
        def score(self, x, system, rng):  # type: ignore[no-untyped-def]
            return x.flatten(1).mean(1)

    plain = Plain()
    assert plain.inner() == ()
    assert plain.pictures(torch.zeros(1, 1, 4, 4), stream(1)) == {}
    assert plain.error_map(torch.zeros(1, 1, 4, 4), None, stream(1)) is None
    assert type(plain).fit is Part.fit
