"""Tiny classifiers and clients."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustbench_med import Classifier, Split

SIZE, CLASSES = 8, 3


class Linear(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(SIZE * SIZE, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class Mixture(Classifier):
    """Two experts and a gate on common features, with batch normalisation and dropout."""

    personal = ("gate.",)
    heads = ("experts.", "gate.")

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten()
        )
        self.experts = nn.ModuleList(nn.Linear(36, CLASSES) for _ in range(2))
        self.gate = nn.Linear(36, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.features(x)
        answers = torch.stack([expert(z) for expert in self.experts], 1)
        return (self.gate(z).softmax(1)[:, :, None] * answers).sum(1)


def make_split(name: str, n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    images = torch.rand(n, 1, SIZE, SIZE, generator=generator) * 0.5
    for label in range(CLASSES):  # a bright row says which class it is
        images[labels == label, :, 2 * label + seed % 2] += 0.4
    return Split(images, labels, tuple(f"{name}-{i}" for i in range(n)), (name,) * n)


@pytest.fixture
def clients() -> dict[str, Split]:
    return {"north": make_split("north", 18, 1), "south": make_split("south", 30, 2), "west": make_split("west", 7, 3)}


@pytest.fixture
def linear() -> Callable[[], Classifier]:
    return Linear


@pytest.fixture
def mixture() -> Callable[[], Classifier]:
    return Mixture


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data folder and a temporary folder for this file alone, removed in the end."""
    tmp_path_factory.getbasetemp()  # the base of every test's tmp_path, which must not be in the folder below
    folder = Path(tempfile.mkdtemp(prefix="t"))
    (folder / "tmp").mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(folder / "home"))
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        yield folder
    torch.set_num_threads(threads)
    shutil.rmtree(folder)


def _running(folder: Path) -> list[str]:
    """Processes with a Flower home below ``folder``, without zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"FLWR_HOME={folder}".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.fixture(scope="session")
def running() -> Callable[[Path], list[str]]:
    return _running


@pytest.fixture(scope="session")
def assert_ended() -> Callable[[Path], None]:
    """Helper processes of Flower's processes end a little later than these."""

    def wait(folder: Path) -> None:
        deadline = time.monotonic() + 1800
        while (left := _running(folder)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left

    return wait
