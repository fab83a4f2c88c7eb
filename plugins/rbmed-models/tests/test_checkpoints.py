"""Files of weights as they are found: any name, any depth, any prefix; nothing in them is run, and all of it fits."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import robustbench_med as rbmed
from rbmed_models.foreign.fitting import fill
from robustbench_med.errors import WeightsError
from robustbench_med.testing.side_effects import states_differ

State = dict[str, Any]


def net(classes: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes)
    )


@pytest.fixture
def state() -> State:
    torch.manual_seed(1)
    return net().state_dict()


def under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def filled(file: Path, **options: Any) -> tuple[State, list[str]]:
    torch.manual_seed(2)
    body = net()
    notes = fill(body, file, **options)
    return body.state_dict(), notes


@pytest.mark.parametrize("name", ["w", "w.ckpt", "w.bin", "w.pt", "w.pth", "w.pth.tar", "w.v1", "my, best [1] ü.pt"])
@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors"])
def test_the_content_decides_and_not_the_name(state: State, tmp_path: Path, name: str, kind: str) -> None:
    file = tmp_path / name
    if kind == "safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "torch")
    assert not states_differ(filled(file)[0], state)


WRAPPED: dict[str, Callable[[State], Any]] = {
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"param_groups": []}},
    "model": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.9)},
    "net": lambda s: {"net": s, "acc": 97.5},
    "ema only": lambda s: {"ema": {"module": s}},
    "two deep": lambda s: {"checkpoint": {"model": s}},
    "lightning": lambda s: {"state_dict": under("model.", s) | {"criterion.weight": torch.ones(2)}, "epoch": 1},
    "parallel": lambda s: under("module.", s),
    "compiled": lambda s: under("_orig_mod.", s),
    "compiled in lightning": lambda s: {"state_dict": under("model._orig_mod.", s)},
    "backbone": lambda s: under("backbone.", s),
    "any prefix": lambda s: under("my.own.encoder_q.", s),
    "parts in parallel": lambda s: {name.replace(".", ".module.", 1): value for name, value in s.items()},
    "averaged": lambda s: under("module.", s) | {"n_averaged": torch.tensor(3)},
    "before 1.0": lambda s: {name: value for name, value in s.items() if "num_batches" not in name},
    "half": lambda s: {name: value.half().float() for name, value in s.items() if value.is_floating_point()},
    "parameters": lambda s: {
        name: nn.Parameter(value) if value.is_floating_point() else value for name, value in s.items()
    },
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_usual_checkpoints_fit(state: State, tmp_path: Path, kind: str) -> None:
    torch.save(WRAPPED[kind](state), tmp_path / "w.ckpt")
    found, _ = filled(tmp_path / "w.ckpt")
    expected = WRAPPED["half"](state) if kind == "half" else state
    assert all(torch.equal(found[name], value) for name, value in expected.items() if "num_batches" not in name)


def test_what_was_done_to_the_names_is_said(state: State, tmp_path: Path) -> None:
    file = tmp_path / "w.ckpt"
    torch.save(WRAPPED["lightning"](state), file)
    assert filled(file)[1] == [
        "'model.' taken off the names in w.ckpt",
        "1 other entries of w.ckpt left out, such as criterion.weight",
    ]


def test_of_two_states_that_fit_the_trained_one_is_taken_and_the_other_named(state: State, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    other = {name: value + 1 for name, value in state.items()}
    torch.save({"state_dict_ema": other, "state_dict": state}, file)
    found, notes = filled(file)
    assert not states_differ(found, state)
    assert notes == ["state state_dict of w.pth; state=state_dict_ema takes another"]
    assert not states_differ(filled(file, wanted="state_dict_ema")[0], other)
    with pytest.raises(WeightsError, match="have no state 'best'; they have state_dict_ema, state_dict"):
        filled(file, wanted="best")


def test_a_module_in_a_wrapper_takes_the_weights_of_what_is_inside(state: State, tmp_path: Path) -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = net()

    torch.save(under("module.", state), tmp_path / "w.pt")
    body = Wrapper()
    fill(body, tmp_path / "w.pt")
    assert not states_differ(body.model.state_dict(), state)


class Evil:
    def __reduce__(self) -> object:
        return print, ("run",)


def made(kind: str, file: Path, state: State) -> None:
    if kind == "pickle":
        file.write_bytes(pickle.dumps({"weight": Evil()}))
    elif kind == "torch":
        torch.save({"weight": Evil()}, file)
    elif kind == "whole":
        torch.save(net(), file)
    elif kind == "script":
        torch.jit.save(torch.jit.trace(net().eval(), torch.zeros(1, 1, 8, 8)), file)
    elif kind == "text":
        file.write_bytes(b"nothing")
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "cut":
        torch.save(state, file)
        file.write_bytes(file.read_bytes()[:400])
    elif kind == "hdf5":
        file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme", "no weights")
    elif kind == "list":
        torch.save([torch.zeros(1)], file)
    elif kind == "folder":
        file.mkdir()


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("pickle", "contain more than tensors"),
        ("torch", "contain more than tensors"),
        ("whole", "contain more than tensors (torch.nn.modules.container.Sequential)"),
        ("script", "are TorchScript, a program (--model"),
        ("text", "cannot be read: neither safetensors nor a PyTorch file"),
        ("empty", "cannot be read"),
        ("cut", "cannot be read"),
        ("hdf5", "are of HDF5 (Keras), not of PyTorch"),
        ("zip", "are a zip archive, not a file of PyTorch"),
        ("list", "contain a list, not the state of a model"),
        ("folder", "cannot be read: Is a directory"),
    ],
)
def test_everything_else_is_refused_in_a_line_that_says_what_to_export(
    kind: str, part: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "w.pt"
    made(kind, file, state)
    with pytest.raises(WeightsError, match=re.escape(part)) as error:
        filled(file)
    assert "\n" not in str(error.value)
    assert "torch.save(model.state_dict()" in str(error.value) or kind in ("empty", "cut", "folder")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda s: {name: value for name, value in s.items() if name != "0.bias"}, "missing 0.bias"),
        (lambda s: {**s, "5.weight": torch.zeros(2)}, "unexpected 5.weight"),
        (lambda s: under("module.", {**s, "5.weight": torch.zeros(2)}), "unexpected 5.weight"),
        (
            lambda s: {**s, "4.weight": torch.zeros(18, 16), "4.bias": torch.zeros(18)},
            "4.weight has shape (18, 16) in the file and (2, 16) in the model",
        ),
        (
            lambda s: {**s, "4.weight": torch.zeros(18, 16), "4.bias": torch.zeros(18)},
            "name all of them in their order",
        ),
        (
            lambda s: {f"layer.{n}": value for n, value in enumerate(s.values())},
            "missing 0.weight, 0.bias, 1.weight and",
        ),
    ],
)
def test_weights_that_do_not_fit_the_code_are_refused(
    change: Callable[[State], State], part: str, state: State, tmp_path: Path
) -> None:
    torch.save(change(state), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=re.escape(part)):
        filled(tmp_path / "w.pt")


def test_two_files_of_one_name_are_two_models(state: State, tmp_path: Path) -> None:
    file, code = tmp_path / "w.pt", Path(__file__).parent / "net.py"
    torch.save(state, file)
    before = rbmed.load_component("model", f"{code}:build,weights={file}").params.digest
    assert re.fullmatch("[0-9a-f]{16}", before)
    torch.save({**state, "0.bias": state["0.bias"] + 1}, file)
    assert rbmed.load_component("model", f"{code}:build,weights={file}").params.digest != before


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_a_state_may_lie_deep(state: State, tmp_path: Path, depth: int) -> None:
    nested: dict[str, Any] = {"model": under("net.", state)}
    for level in range(depth):
        nested = {f"level{level}": nested, "epoch": 3}
    torch.save(nested, tmp_path / "w.pt")
    made, notes = filled(tmp_path / "w.pt")
    assert not states_differ(made, state)
    assert notes == ["'net.' taken off the names in w.pt"]


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch()
    with pytest.raises(WeightsError, match=r"w.pt cannot be read: it is empty or cut off"):
        filled(tmp_path / "w.pt")
