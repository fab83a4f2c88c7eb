"""External models: found, loaded, normalised, in the data set's order of classes; unsafe weights are refused."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter, NotDefined, UsageError, WeightsError

NET = Path(__file__).parent / "net.py"
FEW = "brainsim:size=32,train_patients=2,calibration_patients=2,test_patients=1,slices=2"


@pytest.fixture
def body() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2))


@pytest.fixture
def weights(body: nn.Sequential, tmp_path: Path) -> Path:
    save_file(body.state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def model(text: str) -> rbmed.Model:
    made: rbmed.Model = rbmed.load_component("model", text)
    return made


def images(channels: int = 1, size: int = 32) -> torch.Tensor:
    return torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [".safetensors", ".pt"])
def test_a_file_with_weights_gives_the_logits_of_its_module(body: nn.Sequential, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"w{kind}"
    state = body.state_dict()
    if kind == ".pt":
        torch.save({"state_dict": state, "epoch": 3}, file)
    else:
        save_file(state, file)
    built = model(f"{NET}:build,weights={file},mean=[0.2],std=[0.4]").build(2, 1, 32)
    torch.testing.assert_close(built(images()), body((images() - 0.2) / 0.4))
    with pytest.raises(NotDefined, match="offers no features"):
        built.embed(images())


def test_grey_images_are_repeated_and_resized(weights: Path) -> None:
    built = model("torchvision:squeezenet1_1,size=64,mean=[0.1,0.2,0.3]").build(2, 1, 32).eval()
    assert built(images()).shape == (3, 2)
    features = model("timm:test_resnet").build(2, 1, 32).eval().embed(images())
    assert features.shape[0] == 3
    with pytest.raises(BadParameter, match="needs 1 channels, and the images have 3"):
        model(f"{NET}:build,channels=1").build(2, 3, 32)


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("timm:resnet9999", BadParameter, "timm has no model 'resnet9999'"),
        ("torchvision:resnet9999", BadParameter, "torchvision has no classifier"),
        (f"{NET}:make", BadParameter, "has no function 'make'"),
        (f"{NET}:not_a_module", BadParameter, "returns a int, not a torch.nn.Module"),
        ("gone.py:build", BadParameter, "gone.py cannot be read"),
        (f"{NET}:build,digest=0", BadParameter, "digest=0 is that of other files"),
        (f"{NET}:build,std=[0]", BadParameter, "std must be > 0"),
        (f"{NET}:build,mean=[1,2,3]", BadParameter, "mean has 3 values for 1 channels"),
    ],
)
def test_invalid_models_are_refused(text: str, error: type[UsageError], part: str) -> None:
    with pytest.raises(error, match=re.escape(part)):
        model(text).build(2, 1, 32)


class Evil:
    def __reduce__(self) -> object:
        return print, ("run",)


def test_weights_that_could_run_code_or_do_not_fit_are_refused(weights: Path, tmp_path: Path, capsys) -> None:
    evil = tmp_path / "evil.pt"
    evil.write_bytes(pickle.dumps({"weight": Evil()}))
    torch.save({"weight": Evil()}, tmp_path / "zip.pt")
    for file in (evil, tmp_path / "zip.pt"):
        with pytest.raises(WeightsError, match="contain more than tensors"):
            model(f"{NET}:build,weights={file}").build(2, 1, 32)
    assert capsys.readouterr().out == ""
    with pytest.raises(WeightsError, match="do not fit Sequential"):
        model(f"{NET}:build,weights={weights}").build(3, 1, 32)
    weights.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read"):
        model(f"{NET}:build,weights={weights}").build(2, 1, 32)


def test_two_files_of_one_name_are_two_models(weights: Path) -> None:
    before = model(f"{NET}:build,weights={weights}").params.digest
    assert re.fullmatch("[0-9a-f]{16}", before)
    save_file(load_file(weights), weights, metadata={"the same": "tensors"})
    assert model(f"{NET}:build,weights={weights}").params.digest == before
    save_file({"x": torch.zeros(1)}, weights)
    assert model(f"{NET}:build,weights={weights}").params.digest != before


def test_a_run_scores_the_weights_as_they_are(weights: Path, body: nn.Sequential, tmp_path: Path) -> None:
    def right(**options: object) -> float:
        (record,) = rbmed.evaluate(
            dataset=FEW,
            defense="undefended",
            baseline="",
            attack="fgsm",
            access="oblivious",
            weights=weights,
            out=tmp_path / str(len(str(options))),
            **options,
        )
        assert (record.status, record.defense.strategy.name) == ("ok", "pretrained"), record.reason
        return float(record.metrics["clean_accuracy"])

    dataset = rbmed.load_dataset(FEW)
    test, classes = dataset.split("test"), dataset.card().classes
    expected = float((body((test.images - 0.5) / 0.25).argmax(1) == test.labels).float().mean())
    assert right(model=f"{NET}:build") == pytest.approx(expected)
    turned = ",".join(reversed(classes))
    assert right(model=f"{NET}:build,classes=[{turned}]") == pytest.approx(1 - expected)
    with pytest.raises(BadParameter, match=r"answers with a, b; data set 'brainsim' has .* besides"):
        right(model=f"{NET}:build,classes=[a,b]")


def test_a_file_of_weights_needs_one_model(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="needs one --model, such as net"):
        rbmed.evaluate(weights=weights, out=tmp_path / "out")
