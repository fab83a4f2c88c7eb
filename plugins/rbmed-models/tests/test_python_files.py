"""A Python file is run as Python would run it, and its digest covers whatever it imports that is not installed."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import robustbench_med as rbmed
from rbmed_models.foreign.imports import dependencies
from robustbench_med.errors import BadParameter

HEAD = """
from torch import nn
def head(k): return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, k))
"""
BUILD = "def build(num_classes): return head(num_classes)\n"


def project(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
    return folder / next(iter(files))


def built(text: object) -> rbmed.Classifier:
    made: rbmed.Classifier = rbmed.load_component("model", str(text)).build(2, 1, 8)
    return made


def digest(file: Path) -> str:
    found: str = rbmed.load_component("model", str(file)).params.digest
    return found


#: First the file with the model, then what it depends on, under `proj/`.
PROJECTS: dict[str, dict[str, str]] = {
    "neighbour": {"net.py": "from layers import head\n" + BUILD, "layers.py": HEAD},
    "neighbour of a neighbour": {
        "net.py": "from layers import head\n" + BUILD,
        "layers.py": "from deeper import head\n",
        "deeper.py": HEAD,
    },
    "inside of the function": {
        "net.py": "def build(num_classes):\n    import layers\n    return layers.head(num_classes)\n",
        "layers.py": HEAD,
    },
    "package": {
        "net.py": "from parts.heads import head\n" + BUILD,
        "parts/heads.py": HEAD,
        "parts/__init__.py": "KIND = 1\n",
    },
    "package that imports relatively": {
        "net.py": "from parts import head\n" + BUILD,
        "parts/__init__.py": "from .heads import head\n",
        "parts/heads.py": "from .deep.down import head\n",
        "parts/deep/down.py": HEAD,
        "parts/deep/__init__.py": "",
    },
    "star": {
        "net.py": "from parts import *\ndef build(num_classes): return heads.head(num_classes)\n",
        "parts/__init__.py": "__all__ = ['heads']\n",
        "parts/heads.py": HEAD,
    },
    "folder that is no package": {"net.py": "from parts.heads import head\n" + BUILD, "parts/heads.py": HEAD},
    "in a package": {
        "pkg/net.py": "from .layers import head\nfrom pkg.other import ONE\n" + BUILD,
        "pkg/__init__.py": "",
        "pkg/layers.py": HEAD,
        "pkg/other.py": "ONE = 1\n",
    },
    "relatively without a package": {"net.py": "from .layers import head\n" + BUILD, "layers.py": HEAD},
    "by name": {
        "net.py": "import importlib\nhead = importlib.import_module('layers').head\n" + BUILD,
        "layers.py": HEAD,
    },
    "by a computed name": {
        "net.py": "import importlib\nhead = importlib.import_module('lay' + 'ers').head\n" + BUILD,
        "layers.py": HEAD,
    },
    "circle": {"net.py": "from layers import head\n" + BUILD, "layers.py": "import net\n" + HEAD},
    "a file that it reads": {
        "net.py": """
            import json, pathlib
            from torch import nn
            SIDE = json.loads((pathlib.Path(__file__).parent / "config.json").read_text())
            def build(num_classes):
                return nn.Sequential(nn.AdaptiveAvgPool2d(SIDE), nn.Flatten(), nn.LazyLinear(num_classes))
            """,
        "config.json": "2 ",
    },
}


@pytest.mark.parametrize("kind", PROJECTS)
def test_whatever_it_imports_is_found_run_and_covered(kind: str, tmp_path: Path) -> None:
    proj = tmp_path / "my prüf, models [v1.0]"
    file = project(proj, PROJECTS[kind])
    assert built(file)(torch.rand(3, 1, 8, 8)).shape == (3, 2)
    for name in PROJECTS[kind]:
        before = digest(file)
        (proj / name).write_text((proj / name).read_text() + "\n")
        assert digest(file) != before, name


def test_what_it_does_not_import_does_not_count(tmp_path: Path) -> None:
    file = project(tmp_path, {**PROJECTS["package"], "train.py": "import net\n", "parts/losses.py": "x = 1\n"})
    before = digest(file)
    for name in ("train.py", "parts/losses.py"):
        (tmp_path / name).write_text("changed = 1\n")
    assert digest(file) == before
    assert set(dependencies(file)) == {"", "parts/__init__.py", "parts/heads.py"}


def test_the_digest_is_that_of_the_files_and_not_of_their_place(tmp_path: Path) -> None:
    first, second = (project(tmp_path / name, PROJECTS["package"]) for name in ("a", "b"))
    assert digest(first) == digest(second)


def test_modules_of_the_path_that_are_not_installed_are_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "lib", {"shared_layers/__init__.py": "from .core import head\n", "shared_layers/core.py": HEAD})
    monkeypatch.syspath_prepend(tmp_path / "lib")
    file = project(tmp_path / "proj", {"net.py": "from shared_layers import head\n" + BUILD})
    assert built(file)(torch.rand(1, 1, 8, 8)).shape == (1, 2)
    before = digest(file)
    (tmp_path / "lib" / "shared_layers" / "core.py").write_text(HEAD + "\n")
    assert digest(file) != before


def test_a_changed_neighbour_is_read_again(tmp_path: Path) -> None:
    file = project(tmp_path, PROJECTS["neighbour"])
    assert isinstance(built(file).body[0], nn.AdaptiveAvgPool2d)
    (tmp_path / "layers.py").write_text(HEAD.replace("AdaptiveAvgPool2d", "AdaptiveMaxPool2d"))
    assert isinstance(built(file).body[0], nn.AdaptiveMaxPool2d)
    assert not (tmp_path / "__pycache__").exists()


def test_two_folders_may_have_modules_of_one_name(tmp_path: Path) -> None:
    first = project(tmp_path / "a", PROJECTS["neighbour"])
    other = HEAD.replace("AdaptiveAvgPool2d", "AdaptiveMaxPool2d")
    second = project(tmp_path / "b", {**PROJECTS["neighbour"], "layers.py": other})
    for file, kind in ((first, nn.AdaptiveAvgPool2d), (second, nn.AdaptiveMaxPool2d), (first, nn.AdaptiveAvgPool2d)):
        assert isinstance(built(file).body[0], kind)


def test_modules_of_others_stay_as_they_are(tmp_path: Path) -> None:
    file = project(tmp_path, {"rbmed_net.py": "import json_helpers\n" + HEAD + BUILD, "json_helpers.py": "x = 1\n"})
    before = sys.modules["robustbench_med"]
    project(tmp_path, {"robustbench_med/__init__.py": "broken = 1\n"})
    built(file)
    assert sys.modules["robustbench_med"] is before


def test_dataclasses_classes_and_modules_of_a_file(tmp_path: Path) -> None:
    file = project(
        tmp_path,
        {
            "net.py": """
                from __future__ import annotations
                from dataclasses import dataclass, field
                from typing import ClassVar
                from torch import nn
                @dataclass
                class Config:
                    width: int = 4
                    names: list[str] = field(default_factory=list)
                    kind: ClassVar[str] = "net"
                class Net(nn.Module):
                    def __init__(self, n_classes, in_channels=3, config=Config()):
                        super().__init__()
                        self.conv = nn.Conv2d(in_channels, config.width, 3)
                        self.fc = nn.Linear(config.width, n_classes)
                    def forward(self, x):
                        return self.fc(self.conv(x).mean((2, 3)))
                net = Net(2, 1)
                """
        },
    )
    for name in ("Net", "net"):
        assert built(f"{file}:{name}")(torch.rand(3, 1, 8, 8)).shape == (3, 2)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("def build(:\n", r"cannot be run: SyntaxError: "),
        ("import no_such_module_here\n", "it imports 'no_such_module_here', which is neither installed nor beside it"),
        ("raise RuntimeError('two\\nlines')\n", "cannot be run: RuntimeError: two lines"),
    ],
)
def test_a_file_that_cannot_be_run_says_why_in_one_line(text: str, part: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(text)
    with pytest.raises(BadParameter, match=part) as error:
        built(file)
    assert "\n" not in str(error.value)


def test_a_package_may_import_the_file_itself(tmp_path: Path) -> None:
    for name, side in (("one", 2), ("two", 3)):
        file = project(
            tmp_path / name,
            {
                "models/net.py": f"""
                    from torch import nn
                    from .parts import flat
                    def build(num_classes):
                        return nn.Sequential(nn.AdaptiveAvgPool2d({side}), flat, nn.Linear({side * side}, num_classes))
                    """,
                "models/__init__.py": "from .net import build\n",
                "models/parts.py": "from torch import nn\nflat = nn.Flatten()\n",
            },
        )
        assert built(file).body[2].in_features == side * side
        first = digest(file)
        (file.parent / "__init__.py").write_text("from .net import build\nmore = 1\n")
        assert digest(file) != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit(3)\n", r"it ends the program \(SystemExit: 3\)"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--x'])\n", "belongs under if __name__ == '__main__'"),
        ("def build():\n    raise SystemExit('no')\n", "fails: SystemExit: no"),
    ],
)
def test_a_file_that_ends_the_program_does_not_end_ours(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        built(project(tmp_path, {"net.py": text}))


def test_a_module_in_a_folder_above_is_named(tmp_path: Path) -> None:
    file = project(tmp_path, {"models/net.py": "from aids_of_ours.x import y\n", "aids_of_ours/x.py": "y = 1\n"})
    with pytest.raises(BadParameter, match=rf"nor beside it; {tmp_path} holds it: set PYTHONPATH={tmp_path}"):
        built(file)
