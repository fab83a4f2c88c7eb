"""The recipes: parts and parameters, a whole training at toy size, and the weights that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import robustbench_med as rbmed
from rbmed_medfedpure.recipes import MedFedPure, Undefended
from robustbench_med.errors import BadParameter

TINY = "brainsim:size=32,train_patients=6,calibration_patients=4,test_patients=2,slices=2"
QUICK = (
    "medfedpure:strategy=[fedmoe:rounds=1,local_epochs=1],detector=[mae:epochs=1],purifier=[ddpm:train_steps=2,width=8]"
)
PLAIN = "undefended:strategy=[fedavg:rounds=1,local_epochs=1]"


def recipe(**params: object) -> rbmed.Recipe:
    return MedFedPure(MedFedPure.Params(**params)).recipe()


def test_parameters_reach_the_parts() -> None:
    made = recipe(score="reconstruction", gate="shared", fpr=0.18)
    assert made.detector == rbmed.PartRef("mae", {"score": "reconstruction"})
    assert made.model == rbmed.PartRef("moe", {"gate": "shared"})
    assert made.strategy == rbmed.PartRef("fedmoe", {"gate": "shared"})
    assert made.fpr == 0.18


def test_what_the_user_writes_in_a_part_wins() -> None:
    made = recipe(detector="mae:score=combined,passes=2", purifier="ddpm:t_max=60")
    assert made.detector == rbmed.PartRef("mae", {"score": "combined", "passes": "2"})
    assert made.purifier == rbmed.PartRef("ddpm", {"t_max": "60"})


def test_parts_can_be_left_out_or_swapped() -> None:
    made = recipe(detector="random", purifier="none")
    assert made.detector == rbmed.PartRef("random")
    assert made.purifier is None
    assert recipe(detector="none").detector is None


def test_undefended_has_nothing_but_a_classifier() -> None:
    made = Undefended().recipe()
    assert (made.detector, made.purifier) == (None, None)
    # The same backbone as the mixture's: otherwise the comparison would be of two networks, not of two defenses.
    assert made.model.name == "resnet"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both recipes, trained for a moment on a few simulated patients."""
    folder = tmp_path_factory.mktemp("weights")
    rbmed.train_defense(QUICK, TINY, out=folder / "medfedpure")
    rbmed.train_defense(PLAIN, TINY, out=folder / "undefended")
    return folder


def test_every_part_runs_from_training_to_records(trained: Path, tmp_path: Path) -> None:
    for weights, defense in ((trained / "medfedpure", QUICK), (trained / "undefended", PLAIN)):
        records = rbmed.evaluate(
            dataset=TINY, defense=defense, baseline="", weights=weights, attack="apgd:steps=2",
            probe_limit=4, draws=2, eot=2, out=tmp_path / weights.name,
        )  # fmt: skip
        assert records[0].status == "ok", records[0].reason
        for record in records:
            if record.status == "ok":
                assert record.clients == ["hospital-1", "hospital-2", "hospital-3", "hospital-4"]
                assert record.dataset["synthetic"] is True
    assert records[0].metrics["clean_accuracy"] is not None


def test_clients_differ_in_their_gates_only(trained: Path) -> None:
    deployment = rbmed.load_defense(QUICK, TINY, weights=trained / "medfedpure")
    one, two = (deployment.pipeline(name).classifier.state_dict() for name in ("hospital-1", "hospital-2"))
    differing = {name.split(".")[0] for name in one if not one[name].equal(two[name])}
    assert differing == {"gates"}


def test_an_answer_does_not_depend_on_the_batch(trained: Path) -> None:
    pipeline = rbmed.load_defense(QUICK, TINY, weights=trained / "medfedpure", device="cpu").pipeline("hospital-1")
    x = rbmed.load_dataset(TINY).split("calibration").images[:6]
    rng = rbmed.Stream.named("scoring", 0, torch.arange(6))
    scores, logits = pipeline.score(x, rng), pipeline(x, rng)
    for row in (0, 4):
        part = slice(row, row + 1)
        assert torch.allclose(pipeline.score(x[part], rng[part]), scores[part], atol=1e-4)
        assert torch.allclose(pipeline(x[part], rng[part]), logits[part], atol=1e-3)


def test_a_purified_reference_without_purifier_fails_clearly(trained: Path) -> None:
    detector = "[mae:epochs=1,score=consistency,reference=purified]"
    name = QUICK.replace("[mae:epochs=1]", detector).replace("[ddpm:train_steps=2,width=8]", "none")
    with pytest.raises(BadParameter, match="needs a defense with a purifier"):
        rbmed.load_defense(name, TINY, weights=trained / "medfedpure").pipeline("hospital-1")


def test_shipped_weights_fit_the_embedded_data_and_answer(tmp_path: Path) -> None:
    for name in ("medfedpure", "undefended"):
        (record,) = rbmed.evaluate(
            defense=name, baseline="", attack="clamp", access="oblivious", limit=32, draws=1, device="cpu",
            out=tmp_path / name,
        )  # fmt: skip
        assert record.metrics["clean_accuracy"] >= 0.9


def test_shipped_weights_stay_small() -> None:
    folder = Path(__file__).parents[1] / "rbmed_medfedpure" / "weights"
    total = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert 0 < total <= 15 * 2**20
