"""Recipes trained, deployed and measured, and the weights that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import robustbench_med as rbmed
from robustbench_med.errors import UsageError

TINY = "brainsim:size=32,train_patients=6,calibration_patients=4,test_patients=2,slices=2"
ONE_ROUND = "fedavg:rounds=1,local_epochs=1"
QUICK = (
    "medfedpure:strategy=[fedmoe:rounds=1,local_epochs=1],"
    f"detector=[mae:training=[{ONE_ROUND}]],purifier=[ddim:width=8,training=[{ONE_ROUND}]]"
)
PLAIN = "undefended:strategy=[fedavg:rounds=1,local_epochs=1]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both recipes, trained for one round on a few simulated patients."""
    folder = tmp_path_factory.mktemp("weights")
    rbmed.train_defense(QUICK, TINY, out=folder / "medfedpure")
    rbmed.train_defense(PLAIN, TINY, out=folder / "undefended")
    return folder


@pytest.mark.long
def test_every_part_runs_from_training_to_records(trained: Path, tmp_path: Path) -> None:
    for weights, defense in ((trained / "medfedpure", QUICK), (trained / "undefended", PLAIN)):
        records = rbmed.evaluate(
            dataset=TINY,
            defense=defense,
            baseline="",
            weights=weights,
            attack="apgd:steps=2",
            probe_limit=4,
            draws=2,
            eot=2,
            out=tmp_path / weights.name,
        )
        assert records[0].status == "ok", records[0].reason
        for record in records:
            if record.status == "ok":
                assert record.clients == ["hospital-1", "hospital-2", "hospital-3", "hospital-4"]
                assert record.dataset.synthetic is True
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


def test_without_purifier_flagged_images_are_classified_unchanged(trained: Path) -> None:
    around = QUICK.partition(",purifier=")[0]
    pipeline = rbmed.load_defense(
        f"{around},ablation=no-purifier,fpr=0.5", TINY, weights=trained / "medfedpure", device="cpu"
    ).pipeline("hospital-1")
    x = rbmed.load_dataset(TINY).split("calibration").images
    decided = pipeline.decide(x, rbmed.Stream.named("scoring", 0, torch.arange(len(x))))
    assert 0 < decided.flagged.float().mean() < 1
    assert not decided.changed.any()
    assert not decided.rejected.any()
    with torch.no_grad():
        assert torch.equal(decided.predictions[0], pipeline.classifier(x).argmax(1))


def test_a_purified_reference_without_purifier_fails_clearly(trained: Path) -> None:
    name = QUICK.replace("[mae:", "[mae:reference=purified,").partition(",purifier=")[0] + ",purifier=none"
    with pytest.raises(UsageError, match="needs a defense with a purifier"):
        rbmed.load_defense(name, TINY, weights=trained / "medfedpure").pipeline("hospital-1")


@pytest.mark.long
def test_shipped_weights_fit_the_embedded_data_and_answer(tmp_path: Path) -> None:
    for name in ("medfedpure", "undefended", "medfedpure-plus"):
        (record,) = rbmed.evaluate(
            defense=name,
            baseline="",
            attack="clamp",
            access="oblivious",
            limit=32,
            draws=1,
            device="cpu",
            out=tmp_path / name,
        )
        assert record.metrics["clean_accuracy"] >= 0.9


def test_shipped_weights_stay_small() -> None:
    folder = Path(__file__).parents[1] / "rbmed_medfedpure" / "weights"
    for defense in folder.iterdir():
        total = sum(file.stat().st_size for file in defense.rglob("*.safetensors"))
        assert 0 < total <= 15 * 2**20
