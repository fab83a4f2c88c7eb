"""Models and weights as trainings leave them: random, batch-dependent, half precision, no weights at all."""

from __future__ import annotations

import datetime as dt
import io
import pathlib
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter, WeightsError

CODE = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, num_classes=2, channels=1):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(channels, 4, 3, 2), nn.BatchNorm2d(4), nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(F.adaptive_avg_pool2d(self.norm(self.conv(x)).relu(), 4).flatten(1))

class Dropout(Net):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, training=True)

class Training(Net):
    def forward(self, x):
        return super().train().norm(self.conv(x)).mean((2, 3))[:, :2] * 100

class Unswitched(Net):
    def eval(self):
        return self

class Centred(Net):
    def forward(self, x):
        return super().forward(x - x.mean(0, keepdim=True))

class Frozen(Net):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)

class Detached(Net):
    def forward(self, x):
        return torch.from_numpy(super().forward(x).detach().numpy())

class DarkUndefined(Net):
    def forward(self, x):
        dark = x.mean((1, 2, 3)) < -1.5
        return torch.where(dark[:, None], super().forward(x) * float("nan"), super().forward(x))

class Undefined(Net):
    def forward(self, x):
        return super().forward(x) * float("nan")

class Decided(Net):
    def forward(self, x):
        return super().forward(x).argmax(1)

class Half(Net):
    def __init__(self, num_classes, channels):
        super().__init__(num_classes, channels)
        self.half()

    def forward(self, x):
        return super().forward(x.half())

class Percent(Net):
    def forward(self, x):
        return 100 * super().forward(x).softmax(1)

class OnePercent(Net):
    def __init__(self, num_classes, channels):
        super().__init__(1, channels)

    def forward(self, x):
        return 100 * super().forward(x).sigmoid()

class Sigmoids(Net):
    def forward(self, x):
        return super().forward(x).sigmoid()
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    return tmp_path / "net.py"


def built(net: Path, name: str, classes: int = 2, **more: Any) -> rbmed.Classifier:
    """A model with the weights with which it starts."""
    torch.manual_seed(0)
    first = rbmed.load_component("model", f"{net}:{name}").build(classes, 1, 32)
    torch.save(first.body.state_dict(), net.parent / "w.pth")
    params = "".join(f",{key}={value}" for key, value in more.items())
    made: rbmed.Classifier = rbmed.load_component(
        "model", f"{net}:{name},weights={net.parent / 'w.pth'}{params}"
    ).build(classes, 1, 32)
    return made.eval()


IMAGES = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def test_dropout_in_evaluation_makes_it_random(net: Path) -> None:
    made = built(net, "Dropout")
    assert made.stochastic
    assert "two answers to the same image differ" in made.notes[-1]
    assert not built(net, "Net").stochastic


def test_answers_that_are_not_finite_are_not_taken_for_random(net: Path) -> None:
    made = built(net, "DarkUndefined")
    assert not made.stochastic
    assert made.notes[-1] == "its answers to dark images are not finite, and count as wrong"


@pytest.mark.parametrize("name", ["Training", "Unswitched", "Centred"])
def test_answers_that_depend_on_the_batch_are_refused(net: Path, name: str) -> None:
    with pytest.raises(BadParameter, match=r"answers an image otherwise when others are in the batch"):
        built(net, name)


@pytest.mark.parametrize("name", ["Frozen", "Detached"])
def test_answers_without_a_gradient_are_noted(net: Path, name: str) -> None:
    assert "its answers carry no gradient" in built(net, name).notes[-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Undefined", "answers with values that are not finite"),
        ("Decided", "and type int64, as of classes; return the values of which argmax is taken"),
    ],
)
def test_answers_that_are_no_logits(net: Path, name: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        built(net, name)


def test_percentages_are_no_logits(net: Path) -> None:
    with pytest.raises(BadParameter, match="answers with values that add up to 100, as percentages; divide them by"):
        built(net, "Percent")
    assert rbmed.load_component("model", f"{net}:Percent,scores=logits").build(2, 1, 32)
    assert any("if they are percentages, divide them by 100" in note for note in built(net, "OnePercent").notes)
    assert not any("divide them by 100" in note for note in built(net, "Net").notes)


def test_half_precision_answers_in_full(net: Path) -> None:
    assert built(net, "Half")(IMAGES).dtype is torch.float32


def test_a_sigmoid_for_each_class(net: Path) -> None:
    as_is, taken = built(net, "Sigmoids"), built(net, "Sigmoids", scores="probabilities")
    assert "of a sigmoid for each class, scores=probabilities takes their log-odds" in as_is.notes[-1]
    torch.testing.assert_close(taken(IMAGES), as_is(IMAGES).logit(), rtol=1e-4, atol=1e-4)


# --- files of weights ---


def state(channels: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    body = nn.ModuleDict({"conv": nn.Conv2d(channels, 4, 3, 2), "norm": nn.BatchNorm2d(4), "fc": nn.Linear(64, 2)})
    return dict(body.state_dict())


def load(net: Path, file: Path) -> Any:
    return rbmed.load_component("model", f"{net}:Net,weights={file}").build(2, 1, 32)


@pytest.mark.parametrize(
    "beside",
    [
        {"args": {"out": pathlib.PosixPath("/x")}},
        {"when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)},
        {"best": np.float64(0.3), "counts": np.arange(3)},
    ],
    ids=["path", "date", "numpy"],
)
def test_what_trainings_write_beside_the_state_is_read(net: Path, tmp_path: Path, beside: dict[str, Any]) -> None:
    torch.save({"state_dict": state(), **beside}, tmp_path / "last.ckpt")
    torch.testing.assert_close(load(net, tmp_path / "last.ckpt").body.state_dict()["fc.weight"], state()["fc.weight"])


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _in_tar() -> bytes:
    buffer, content = io.BytesIO(), _saved(state())
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("weights.pth")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>404", "a web page, not the file itself"),
        (b'{"weight_map": {}}', "--model hf:FOLDER"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (_in_tar(), "a tar archive: unpack it first"),
        (_saved(state())[:900], "the file is cut off or damaged"),
        (
            _saved({**state(), "fc.weight": state()["fc.weight"] * torch.nan}),
            r"not finite \(NaN or infinite\) in fc.weight",
        ),
        (_saved(state(3)), "if it was trained on images of 3 channels: channels=3"),
    ],
    ids=["lfs", "html", "index", "gzip", "tar", "cut", "nan", "channels"],
)
def test_files_that_are_no_weights_say_what_they_are(net: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "best.pth.tar").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load(net, tmp_path / "best.pth.tar")


def test_a_folder_is_no_file_of_weights(net: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    with pytest.raises(BadParameter, match="is a folder; name a file of weights, or a model with --model hf:FOLDER"):
        load(net, tmp_path / "shards")
