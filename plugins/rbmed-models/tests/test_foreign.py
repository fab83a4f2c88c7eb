"""External models: found, normalised, in the data set's order of classes; what they answer is read as logits."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_models.foreign.classifier import Foreign
from rbmed_models.foreign.params import ForeignParams
from robustbench_med.errors import BadParameter, ModelNote, UsageError, WeightsError

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


def test_a_file_with_weights_gives_the_logits_of_its_module(body: nn.Sequential, weights: Path) -> None:
    built = model(f"{NET}:build,weights={weights},mean=[0.2],std=[0.4]").build(2, 1, 32)
    torch.testing.assert_close(built(images()), body((images() - 0.2) / 0.4))


def test_grey_images_are_repeated_and_resized() -> None:
    built = model("torchvision:squeezenet1_1,size=64,mean=[0.1,0.2,0.3]").build(2, 1, 32).eval()
    assert built(images()).shape == (3, 2)
    with pytest.raises(BadParameter, match="needs 1 channel, and the images have 3"):
        model(f"{NET}:build,channels=1").build(2, 3, 32)


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("timm:resnet9999", BadParameter, "timm has no model 'resnet9999'"),
        ("torchvision:resnet9999", BadParameter, "torchvision has no classifier"),
        (f"{NET}:make", BadParameter, f"has no function 'make'; write --model {NET}:NAME; it has build, fixed"),
        (f"{NET}:not_a_module", BadParameter, "returns a int, not a torch.nn.Module"),
        (f"{NET}:demanding", BadParameter, "needs depth, which nothing gives"),
        (f"{NET}:broken", BadParameter, "broken fails: ZeroDivisionError: division by zero"),
        ("gone.py:build", BadParameter, "gone.py cannot be read"),
        (f"{NET}:build,digest=0", BadParameter, "digest=0 is that of other files"),
        (f"{NET}:build,std=[0]", BadParameter, "std must be > 0"),
        (f"{NET}:build,classes=[a,b,a]", BadParameter, "classes names 'a' twice"),
        (f"{NET}:build,std=[inf]", BadParameter, "mean and std finite"),
        (f"{NET}:build,mean=[nan]", BadParameter, "mean and std finite"),
        (f"{NET}:build,mean=[123.7],std=[58.4]", BadParameter, "are of images from 0 to 255, and images here are in"),
        (f"{NET}:build,mean=[0],std=[255]", BadParameter, "divide both by 255"),
        (f"{NET}:build,mean=[0.1,0.2,0.3]", BadParameter, "mean has 3 values for 1 channel"),
        (f"{NET}:fixed", BadParameter, "fails on images of 1 x 32 x 32 (it takes size=64,channels=3): RuntimeError"),
        (f"{NET}:fixed,channels=3", BadParameter, "fails on images of 3 x 32 x 32 (it takes size=64): RuntimeError"),
        ("torchvision:inception_v3", BadParameter, "(it takes size=224)"),
        (f"{NET}:answering,output=loss", BadParameter, "output=loss is none of these"),
    ],
)
def test_invalid_models_are_refused_in_one_line(text: str, error: type[UsageError], part: str) -> None:
    with pytest.raises(error, match=re.escape(part)) as caught:
        model(text).build(2, 1, 32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("width", [1, 18, 1000])
def test_another_number_of_values_than_classes_is_refused(classes: int, width: int) -> None:
    if (classes, width) == (2, 1):
        return
    many = "one value" if width == 1 else f"{width} values"
    with pytest.raises(BadParameter, match=rf"answers with {many} for each image, and {classes} classes.*classes=\["):
        model(f"{NET}:wide_{width}").build(classes, 1, 32)


@pytest.mark.parametrize("name", ["one_value", "flat", "map_of_one"])
def test_one_value_stands_for_the_second_of_two_classes(name: str) -> None:
    built = model(f"{NET}:{name}").build(2, 1, 32)
    x = images()
    z = built.body((x - 0.5) / 0.25).reshape(-1)
    torch.testing.assert_close(built(x), torch.stack([torch.zeros(3), z], 1))


class Squashed(nn.Module):
    """Classes by brightness, far from the boundary, as probabilities."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end, self.last = end, nn.Sigmoid() if end == "module" else nn.Softmax(-1)

    def forward(self, x: Tensor) -> Any:
        z = 200 * (x.mean((1, 2, 3)) - 0.25)[:, None]
        both = torch.cat([-z, z], 1)
        return {
            "module": lambda: self.last(z),
            "function": lambda: torch.sigmoid(z).squeeze(1),
            "method": lambda: {"p": z.sigmoid()},
            "softmax": lambda: self.last(both),
            "softmax function": lambda: both.softmax(dim=1),
            "half": lambda: F.softmax(both.bfloat16(), 1),
            "numbers": lambda: 1 / (1 + (-z).exp()),
        }[self.end]()


@pytest.mark.parametrize("end", ["module", "function", "method", "softmax", "softmax function", "half"])
def test_probabilities_that_are_exactly_0_and_1_can_be_attacked(end: str) -> None:
    """Before, such a model had no gradient and no score that changed, and kept images that any attack breaks."""
    params = ForeignParams(mean=(0.0,), std=(1.0,), scores="probabilities")
    built = Foreign(Squashed(end), params, 2, 1, 8).eval()
    x = torch.cat([torch.full((2, 1, 8, 8), 0.05), torch.full((2, 1, 8, 8), 0.45)]).requires_grad_()
    y = torch.tensor([0, 0, 1, 1])
    logits = built(x)
    assert logits.isfinite().all()
    assert (logits.argmax(1) == y).all()
    margins = logits[:, 1] - logits[:, 0]
    size = 40.0 if built.reading.single else 80.0
    torch.testing.assert_close(margins, margins.new_tensor([-size, -size, size, size]), rtol=0.02, atol=0)
    (slope,) = torch.autograd.grad(margins.sum(), x)
    assert (slope > 0).all()


@pytest.mark.parametrize("end", ["module", "function", "softmax", "half"])
def test_probabilities_that_are_changed_in_place_are_read_as_they_are(end: str) -> None:
    """Before, the values before the softmax or sigmoid were taken, and the change was overlooked."""

    class Changed(Squashed):
        def forward(self, x: Tensor) -> Any:
            p = super().forward(x)
            bright = (x.mean((1, 2, 3)) > 0.2).view(-1, *[1] * (p.dim() - 1))
            return p.copy_(torch.where(bright, 1 - p, p))

    params = ForeignParams(mean=(0.0,), std=(1.0,), scores="probabilities")
    x = torch.cat([torch.full((2, 1, 8, 8), 0.05), torch.full((2, 1, 8, 8), 0.255)])
    built, plain = (Foreign(net, params, 2, 1, 8).eval() for net in (Changed(end), Squashed(end)))
    for inference in (False, True):
        with torch.inference_mode(inference):
            assert torch.equal(built(x)[:2], plain(x)[:2])
            torch.testing.assert_close(built(x)[2:].softmax(1), plain(x)[2:].softmax(1).flip(1), rtol=0.02, atol=0)
    (slope,) = torch.autograd.grad(built(x.requires_grad_())[:, 1].sum(), x)
    assert (slope > 0).all()


def test_probabilities_made_in_another_way_are_read_as_they_are() -> None:
    params = ForeignParams(mean=(0.0,), std=(1.0,), scores="probabilities")
    built = Foreign(Squashed("numbers"), params, 2, 1, 8).eval()
    x = torch.full((2, 1, 8, 8), 0.26)
    torch.testing.assert_close(built(x).softmax(1)[:, 1], torch.full((2,), 2.0).sigmoid(), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("name", "inner"), [("sigmoid", "one_value"), ("softmax", "build")])
def test_of_probabilities_the_logarithm_is_taken(name: str, inner: str) -> None:
    torch.manual_seed(0)
    raw = model(f"{NET}:{inner}").build(2, 1, 32)
    torch.manual_seed(0)
    built = model(f"{NET}:{name}").build(2, 1, 32)
    torch.testing.assert_close(built(images()).softmax(1), raw(images()).softmax(1))
    torch.manual_seed(0)
    plain = model(f"{NET}:{name},scores=logits").build(2, 1, 32)
    assert not torch.allclose(plain(images()), built(images()))


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("dict", ""), ("dict", "logits"), ("tuple", "0"), ("pair", ""), ("record", "logits"), ("nested", "logits"),
        ("nested", "head.logits"), ("list", "0"),
    ],
)  # fmt: skip
def test_the_entry_with_the_logits_is_named_or_obvious(kind: str, output: str) -> None:
    torch.manual_seed(0)
    built = model(f"{NET}:answering_{kind}" + (f",output={output}" if output else "")).build(2, 1, 32)
    torch.testing.assert_close(built(images()), built.body.inner((images() - 0.5) / 0.25))


def test_an_unclear_answer_is_refused_in_a_line_that_names_an_entry() -> None:
    with pytest.raises(BadParameter, match=r"answers with a dict of a \(3, 2\), b \(3, 2\); name .*: output=a"):
        model(f"{NET}:unclear").build(2, 1, 32)
    assert model(f"{NET}:unclear,output=b").build(2, 1, 32)(images()).shape == (3, 2)


def test_a_run_scores_the_weights_as_they_are(weights: Path, body: nn.Sequential, tmp_path: Path) -> None:
    with torch.no_grad():
        body[4].weight[0, 0] = 1e-9  # half precision has no such number
    save_file(body.state_dict(), weights)

    def right(**options: object) -> float:
        (record,) = rbmed.evaluate(
            dataset=FEW,
            attack="fgsm",
            access="oblivious",
            weights=weights,
            out=tmp_path / str(len(str(options))),
            **options,
        )
        assert (record.status, record.defense.strategy.name) == ("ok", "pretrained"), record.reason
        assert record.defense.name == "undefended"
        return float(record.metrics["clean_accuracy"])

    dataset = rbmed.load_dataset(FEW)
    test, classes = dataset.split("test"), dataset.card().classes
    expected = float((body((test.images - 0.5) / 0.25).argmax(1) == test.labels).float().mean())
    assert right(model=f"{NET}:build") == pytest.approx(expected)
    turned = ",".join(reversed(classes))
    with pytest.warns(ModelNote, match=rf"its classes in order: {', '.join(reversed(classes))} \(classes=\)"):
        assert right(model=f"{NET}:build,classes=[{turned}]") == pytest.approx(1 - expected)
    with pytest.raises(BadParameter, match=r"answers with a, b; data set 'brainsim' has .* besides"):
        right(model=f"{NET}:build,classes=[a,b]")
    deployed = rbmed.load_defense("undefended", FEW, model=f"{NET}:build,weights={weights}")
    assert deployed.classifier(deployed.served[0]).body[4].weight[0, 0] == 1e-9


def test_what_a_model_is_given_and_what_nobody_stated_is_said(weights: Path, tmp_path: Path) -> None:
    options = {"dataset": FEW, "attack": "fgsm", "access": "oblivious", "weights": weights, "out": tmp_path / "out"}
    unsaid = r"build: input 1 x 32 x 32, mean 0.5, std 0.25 \(not stated, so assumed: size, channels, mean, std\); its"
    with pytest.warns(ModelNote, match=unsaid):
        rbmed.evaluate(model=f"{NET}:build", **options)
    for size, words in (
        (28, ""),
        (48, "images of 32 px are enlarged to 48, and blurred: give the data set size=48 too; "),
    ):
        with pytest.warns(
            ModelNote, match=rf"input 1 x {size} x {size}, mean 0.1, std 0.2; {words}its classes in order"
        ):
            rbmed.evaluate(model=f"{NET}:build,size={size},channels=1,mean=[0.1],std=[0.2]", **options)


@pytest.mark.parametrize(
    ("params", "colours", "warned"),
    [
        ("split=patient", (), "has seen some of the images it is tested on"),
        ("split=official", (), ""),
        ("split=official", (3,), "24 of 24 images are in colour, read as grey"),
    ],
)
def test_a_split_that_is_not_used_and_colour_that_is_dropped_are_warned_of(
    weights: Path, tmp_path: Path, params: str, colours: tuple[int, ...], warned: str
) -> None:
    dice = np.random.default_rng(0)
    for part, name in itertools.product(("train", "test"), ("a", "b")):
        (folder := tmp_path / "scans" / part / name).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(dice.integers(0, 256, (32, 32, *colours), dtype=np.uint8)).save(folder / f"{number}.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rbmed.evaluate(
            dataset=f"imagefolder:size=32,{params}",
            data_root=tmp_path / "scans",
            attack="fgsm",
            access="oblivious",
            model=f"{NET}:build",
            weights=weights,
            out=tmp_path / "out",
        )
    marks = ("has seen some of the images it is tested on", "in colour")
    said = [text for each in caught if any(mark in (text := str(each.message)) for mark in marks)]
    assert len(said) == bool(warned)
    assert warned in "".join(said)


def test_a_file_of_weights_needs_one_model(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="needs one --model, such as net"):
        rbmed.evaluate(weights=weights, out=tmp_path / "out")
    with pytest.raises(WeightsError, match=r"--weights gone\.pt: there is no such file or folder"):
        rbmed.evaluate(weights="gone.pt", model=f"{NET}:build", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_other_code_are_refused(weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"do not fit Sequential: 4\.weight has shape .2, 128. in the file"):
        model(f"{NET}:build,weights={weights}").build(3, 1, 32)


class _Squeezing(nn.Module):
    """Answers as many public models do: without the dimensions that are 1."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.inner = nn.Linear(32 * 32, values)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.inner(x.flatten(1)).squeeze()
        return made


@pytest.mark.parametrize("values", [1, 2])
def test_an_answer_that_is_squeezed_is_the_same_for_a_single_image(values: int) -> None:
    built = Foreign(_Squeezing(values), ForeignParams(), 2, 1, 32)
    torch.testing.assert_close(torch.cat([built(image[None]) for image in images()]), built(images()))


def test_findings_have_a_logit_each_and_a_sigmoid_gives_log_odds() -> None:
    class Sigmoid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(32 * 32, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.inner(x.flatten(1)).sigmoid()
            return made

    module = Sigmoid()
    plain = ForeignParams(mean=(0.0,), std=(1.0,))
    built = Foreign(module, plain, 3, 1, 32, notes=(), findings=True)
    torch.testing.assert_close(built(images()), module.inner(images().flatten(1)), atol=1e-5, rtol=1e-4)
    assert "log-odds are taken" in "; ".join(built.notes)
    with pytest.raises(BadParameter, match="3 values for each image, and 2 findings are wanted"):
        Foreign(module, plain, 2, 1, 32, findings=True)
    assert Foreign(_Squeezing(1), plain, 1, 1, 32, findings=True)(images()).shape == (3, 1)  # not two classes
