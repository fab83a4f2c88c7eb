"""Nothing is trained without `--train`: what needs no training runs with any weights at hand, the rest says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import TOY
from torch import nn

import robustbench_med as rbmed
from robustbench_med.errors import UsageError, WeightsError
from robustbench_med.files.paths import home
from robustbench_med.grid.config import build
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record
from robustbench_med.runner.preview import Preview
from robustbench_med.runner.runner import _order

BASE = {"dataset": "stripes", "attack": "fgsm", "eps": "1/10", "limit": 8}
TRAINED = "model=linear,strategy=[own:steps=5]"


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The toy plugin on a machine without any weights."""
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    return Registry(files=[TOY])


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """A model from elsewhere and its weights."""
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\ndef build():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(), nn.Linear(2, 2))\n"
    )
    body = nn.Sequential(nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(), nn.Linear(2, 2))
    body[2].weight.data = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    torch.save(body.state_dict(), tmp_path / "w.ckpt")
    return {"model": f"{file}:build", "weights": tmp_path / "w.ckpt"}


def run(toys: Registry, tmp_path: Path, **options: Any) -> list[Record]:
    return rbmed.evaluate(registry=toys, out=tmp_path / "out", **{**BASE, **options})


def trained() -> list[str]:
    return sorted(folder.name.partition("-")[0] for folder in (home() / "parts").glob("[!.]*"))


def test_an_own_model_is_measured_undefended_and_nothing_is_trained(
    toys: Registry, tmp_path: Path, own: dict[str, Any]
) -> None:
    records = run(toys, tmp_path, **own)
    assert [(r.defense.name, r.role, r.status) for r in records] == [
        ("undefended", "claim", "ok"),
        ("undefended", "probe", "skipped"),
    ]
    assert records[0].metrics["clean_accuracy"] == 1.0
    assert records[0].defense.strategy.name == "pretrained"
    assert trained() == ["classifier"]
    assert not list(home().rglob("*.png"))


def test_parts_that_need_no_training_run_with_an_own_model(toys: Registry, tmp_path: Path, own: dict[str, Any]) -> None:
    """Every classical purifier, and detectors that are fitted or only need a threshold."""
    purifiers = ("jpeg", "median", "gaussian", "bit-depth", "blur", "total-variation", "wavelet")
    detectors = ("energy", "max-softmax", "feature-squeezing", "random", "knn")
    defenses = [
        *(f"shielded:purifier={name}" for name in purifiers),
        *(f"shielded:purifier=none,detector={name}" for name in detectors),
        "shielded:purifier=jpeg,detector=mahalanobis",
    ]
    quick = {"limit": 4, "diagnostics": "off"}
    records = run(toys, tmp_path, defense=defenses, baseline="", access="oblivious", **quick, **own)
    assert [record.reason for record in records if record.status != "ok"] == []
    assert len(records) == len(defenses)


def test_parts_that_need_no_training_run_with_weights_of_another_defense(toys: Registry, tmp_path: Path) -> None:
    rbmed.train_defense(f"undefended:{TRAINED}", "stripes", seed=3, registry=toys)
    options = {"defense": f"shielded:jpeg,{TRAINED}", "baseline": "", "access": "oblivious"}
    (item,) = Preview(build({**BASE, **options, "out": tmp_path / "out"}), toys).items(estimate=False)
    assert item.state == "run"
    (record,) = run(toys, tmp_path, **options)
    assert (record.status, record.defense.weights.seed) == ("ok", 3)
    with pytest.raises(WeightsError, match="seed 3 instead of 4"):
        run(toys, tmp_path, train_seed=4, **options)


def test_parts_that_need_training_are_refused_before_anything_is_written(
    toys: Registry, tmp_path: Path, own: dict[str, Any]
) -> None:
    with pytest.raises(
        WeightsError, match=r"no trained weights for defense 'medfedpure'.*let `rbmed run --train` do it"
    ):
        run(toys, tmp_path, defense="medfedpure", baseline="", **own)
    with pytest.raises(WeightsError, match="no trained weights for defense 'undefended'"):
        run(toys, tmp_path, model=own["model"])
    assert trained() == []
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"model": "{folder}/gone.py"}, "gone.py cannot be read"),
        ({"model": "{folder}/net.py:other"}, "has no function 'other'"),
        ({"weights": "{folder}/net.py"}, "cannot be read"),
        ({"model": "{folder}/net.py:build,classes=[left,right,both]"}, "answers with 2 values"),
    ],
)
def test_the_model_is_checked_before_anything_is_trained(
    change: dict[str, str], part: str, toys: Registry, tmp_path: Path, own: dict[str, Any]
) -> None:
    changed = {name: text.format(folder=tmp_path) for name, text in change.items()}
    with pytest.raises(UsageError, match=re.escape(part)):
        run(toys, tmp_path, defense="medfedpure", train=True, access="transfer", **{**own, **changed})
    assert trained() == []
    assert not list((tmp_path / "out").glob("*"))


def test_an_order_of_classes_that_other_libraries_do_not_have_is_said() -> None:
    card = rbmed.DataCard("mine", ("a", "B", "10"), 1, 8, "", "", "0")
    model = rbmed.load_component("model", "resnet")
    assert _order(model, card) == (
        "its classes in order: a, B, 10 (of 'mine'; another order: classes=[...], such as 10, B, a of torchvision's "
        "ImageFolder)"
    )


def test_a_transfer_attack_trains_no_surrogate(toys: Registry, tmp_path: Path, own: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="no trained weights"):
        run(toys, tmp_path, access="transfer", surrogate="bare", **own)
    (record,) = run(toys, tmp_path, access="ladder:quick", surrogate="bare", **own)
    assert record.status == "ok"
    assert any("no trained weights" in (rung.reason or "") for rung in record.rungs if rung.access == "transfer")
    assert trained() == ["classifier"]


def test_weights_that_are_named_are_not_passed_over(toys: Registry, tmp_path: Path) -> None:
    """Also where the baseline has the same name."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no trained weights in"):
        run(toys, tmp_path, defense="undefended", weights=tmp_path / "empty")
    with pytest.raises(WeightsError, match="there is no such file or folder"):
        run(toys, tmp_path, defense="undefended", weights=tmp_path / "gone")
