"""The recipes: parts and parameters, a whole training at toy size, and the shipped weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import robustbench_med as rbmed
from rbmed_medfedpure.recipes.medfedpure import ABLATIONS
from rbmed_medfedpure.recipes.presets import DIFFUSION, PRESETS, STRATEGIES
from robustbench_med import PartRef
from robustbench_med.errors import BadParameter
from robustbench_med.plugins.registry import Registry


def recipe(text: str) -> rbmed.Recipe:
    made: rbmed.Recipe = rbmed.load_component("defense", text).recipe()
    return made


def parts(text: str) -> dict[str, Any]:
    """The built parts of a defense."""
    made = recipe(text)
    kinds = ("model", "strategy", "detector", "purifier")
    return {kind: rbmed.load_component(kind, ref) for kind in kinds if (ref := getattr(made, kind)) is not None}


def params(text: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = parts(text)[kind].params.model_dump()
    return found


def test_parameters_reach_the_parts() -> None:
    text = "medfedpure:score=reconstruction,gate=shared,fpr=0.18,t_min=40,t_max=60,strength=0.25"
    made = recipe(text)
    assert made.detector == PartRef("mae", {"score": "reconstruction"})
    assert made.model == PartRef("moe", {"gate": "shared"})
    assert made.strategy == PartRef("fedmoe", {"gate": "shared"})
    assert made.purifier == PartRef("ddim", {"steps": 2, "t_min": 40, "t_max": 60})
    assert (made.fpr, made.strength) == (0.18, 0.25)
    assert set(parts(text)) == {"model", "strategy", "detector", "purifier"}


def test_the_default_preset_is_small() -> None:
    made = recipe("medfedpure")
    assert made.detector == PartRef("mae", {"score": "consistency"})
    assert made.purifier == PartRef("ddim", {"steps": 2})
    assert (made.model, made.strategy) == (PartRef("moe"), PartRef("fedmoe"))
    assert (made.fpr, made.strength) == (0.05, None)


def test_parameters_of_a_part_override_those_of_the_recipe() -> None:
    made = recipe("medfedpure:t_max=80,detector=[mae:score=combined,passes=2],purifier=[ddim:t_max=60]")
    assert made.detector == PartRef("mae", {"score": "combined", "passes": "2"})
    assert made.purifier == PartRef("ddim", {"steps": 2, "t_max": "60"})
    assert params("medfedpure:preset=paper,detector=[mae:depth=2]", "detector")["depth"] == 2


def test_parts_can_be_left_out_or_swapped() -> None:
    made = recipe("medfedpure:detector=random,purifier=none")
    assert made.detector == PartRef("random")
    assert made.purifier is None
    assert recipe("medfedpure:detector=none").detector is None


def test_the_papers_preset_has_the_papers_values() -> None:
    made = recipe("medfedpure:preset=paper")
    assert made.fpr == 0.18
    assert [ref.name for ref in (made.model, made.strategy, made.detector, made.purifier) if ref] == [
        "moe",
        "fedmoe",
        "mae",
        "ddpm",
    ]
    expected = {
        "model": {
            "layers": 2,
            "width": 64,
            "experts": 3,
            "expert_hidden": 256,
            "gate_hidden": 64,
            "gate": "local",
            "beta": 1e-4,
            "gamma": 0.1,
        },
        "strategy": {"rounds": 20, "local_epochs": 15, "batch_size": 32, "optimizer": "adam", "lr": 1e-3},
        "detector": {
            "patch": 16,
            "width": 512,
            "depth": 12,
            "decoder_depth": 8,
            "heads": 8,
            "mask_ratio": 0.75,
            "score": "reconstruction",
        },
        "purifier": {"t_min": 50, "t_max": 150, "train_t_max": 1000},
    }
    for kind, wanted in expected.items():
        known = params("medfedpure:preset=paper", kind)
        assert {name: known[name] for name in wanted} == wanted


def test_the_papers_diffusion_network_has_the_authors_size() -> None:
    purifier = parts("medfedpure:preset=paper")["purifier"]
    with torch.random.fork_rng():
        purifier.build(1, 224)
    count = sum(p.numel() for p in purifier.parameters())
    assert count == pytest.approx(7.47e6, rel=0.02)


def test_a_preset_knows_every_part_that_takes_its_parameters() -> None:
    registry = Registry()
    ours = {e.spec.name for e in registry.entries("strategy") if e.distribution == "rbmed-fl"}
    assert set(STRATEGIES) == ours
    diffusion = {e.spec.name for e in registry.entries("purifier") if ".diffusion." in e.spec.target}
    assert set(DIFFUSION) == diffusion
    for kind, known in PRESETS["paper"].params.items():
        for name, values in known.items():
            rbmed.load_component(kind, PartRef(name, values))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_is_a_defense(ablation: str, preset: str) -> None:
    assert set(parts(f"medfedpure:preset={preset},ablation={ablation}")) >= {"model", "strategy", "purifier"}


def test_an_ablation_changes_one_thing() -> None:
    whole = recipe("medfedpure")

    def changed(ablation: str) -> dict[str, object]:
        made = recipe(f"medfedpure:ablation={ablation}")
        return {name: value for name, value in vars(made).items() if value != getattr(whole, name)}

    assert changed("none") == {}
    assert changed("no-detector") == {"detector": None}
    # Without purified copies, the score has the autoencoder's to compare with.
    own = PartRef("mae", {"score": "consistency", "reference": "reconstruction"})
    assert changed("no-purifier") == {"purifier": PartRef("identity"), "detector": own}
    assert changed("fixed-strength") == {"strength": 0.5}
    shared = {"gate": "shared"}
    assert changed("shared-gates") == {"model": PartRef("moe", shared), "strategy": PartRef("fedmoe", shared)}
    assert changed("fedavg-backbone") == {"model": PartRef("resnet"), "strategy": PartRef("fedavg")}
    assert changed("random-detector") == {"detector": PartRef("random")}


def test_an_ablated_part_takes_the_users_parameters() -> None:
    made = recipe("medfedpure:ablation=fedavg-backbone,strategy=[fedavg:rounds=3]")
    assert (made.model, made.strategy) == (PartRef("resnet"), PartRef("fedavg", {"rounds": "3"}))
    assert recipe("medfedpure:ablation=fixed-strength,strength=1").strength == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ablation=random-detector,detector=mae", "ablation=random-detector means detector=random, not detector=mae"),
        ("ablation=no-detector,detector=mae", "means detector=none"),
        ("ablation=fedavg-backbone,strategy=[ditto:rounds=2]", "means strategy=fedavg, not strategy=ditto"),
        ("ablation=shared-gates,gate=local", "means gate=shared, not gate=local"),
        ("ablation=no-detector,score=combined", "score=combined needs a detector, and there is none"),
        ("detector=none,fpr=0.1", "fpr=0.1 needs a detector"),
        ("purifier=none,t_max=60", "t_max=60 needs a purifier"),
        ("purifier=none,strength=1", "strength=1.0 needs a purifier"),
        ("detector=random,score=combined", "unknown parameter 'score'"),
        ("purifier=jpeg,t_max=60", "unknown parameter 't_max'"),
        ("ablation=fedavg-backbone,gate=shared", "unknown parameter 'gate'"),
        ("t_min=90,t_max=60", "t_min <= t_max"),
        ("preset=large", "small"),
    ],
)
def test_contradictions_are_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message) as caught:
        parts(f"medfedpure:{text}")
    assert "\n" not in str(caught.value)


def test_undefended_has_nothing_but_a_classifier() -> None:
    made = recipe("undefended")
    assert (made.detector, made.purifier) == (None, None)
    # The same backbone as the mixture's: otherwise the comparison would be of two networks, not of two defenses.
    assert made.model.name == "resnet"
    mixture = params("medfedpure:preset=paper", "model")
    assert {name: mixture[name] for name in params("undefended:preset=paper", "model")} == params(
        "undefended:preset=paper", "model"
    )
    assert params("undefended:preset=paper,strategy=pfeddef", "strategy")["rounds"] == 20


def test_shielded_and_diffpure_have_the_undefended_classifier() -> None:
    bare = recipe("undefended")
    for text in ("diffpure", "shielded", "shielded:median", "shielded:detector=knn,purifier=none"):
        made = recipe(text)
        assert (made.model, made.strategy) == (bare.model, bare.strategy)
        parts(text)
    assert recipe("diffpure").detector is None
    assert recipe("shielded:median").purifier == PartRef("median")
    both = recipe("shielded:purifier=[jpeg:quality_min=50],detector=knn,fpr=0.1,strength=1")
    assert (both.purifier, both.detector) == (PartRef("jpeg", {"quality_min": "50"}), PartRef("knn"))
    assert (both.fpr, both.strength) == (0.1, 1.0)
    for empty in ("shielded:none", "diffpure:purifier=none"):
        with pytest.raises(BadParameter, match="undefended"):
            recipe(empty)
    with pytest.raises(BadParameter, match="strength=1 needs a purifier"):
        recipe("shielded:none,detector=knn,strength=1")
    assert recipe("shielded:strength=0.3").strength == 0.3


def test_plus_abstains_by_default() -> None:
    made = recipe("medfedpure-plus")
    assert (made.strategy.name, made.detector, made.purifier) == ("pfeddef", PartRef("max-softmax"), None)
    few = recipe("medfedpure-plus:preset=few")
    assert few.fpr > made.fpr
    assert "eps=2/255" in str(few.strategy.params["adversarial"])
    many = recipe("medfedpure-plus:preset=many")
    assert (many.strategy.name, many.model) == ("fedavg", PartRef("resnet", {"layers": 2}))
    assert "trades" in str(many.strategy.params["adversarial"])
    assert recipe("medfedpure-plus:preset=many,model=[resnet:layers=1]").model.params == {"layers": "1"}
    assert recipe("medfedpure-plus:preset=many,model=moe").model == PartRef("moe")
    assert recipe("medfedpure-plus:detector=none").detector is None
    assert recipe("medfedpure-plus:purifier=[ddim:steps=2],fpr=0.2").purifier == PartRef("ddim", {"steps": "2"})
    for text in ("medfedpure-plus", "medfedpure-plus:preset=few", "medfedpure-plus:strategy=fedbn"):
        assert set(parts(text)) == {"model", "strategy", "detector"}


@pytest.mark.long
def test_plus_abstains_where_confidence_is_lowest() -> None:
    deployment = rbmed.load_defense("medfedpure-plus:fpr=0.25", device="cpu")
    split = rbmed.load_dataset("brainsim").split("calibration").by_site()["hospital-1"]
    pipeline = deployment.pipeline("hospital-1")
    decided = pipeline.decide(split.images, rbmed.Stream.named("scoring", 0, torch.arange(len(split))))
    with torch.no_grad():
        confidence = pipeline.classifier(split.images).softmax(1).amax(1)
    rejected = decided.rejected[0]
    assert 0.15 < rejected.float().mean() <= 0.25
    assert confidence[rejected].max() <= confidence[~rejected].min() + 1e-6
