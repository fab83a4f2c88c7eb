"""The pictures of a training: which there are, what they hold, and that nothing depends on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command import invoke
from helpers.paths import TOY

import robustbench_med as rbmed
from robustbench_med.defenses.artifact import Artifact
from robustbench_med.plugins.registry import Registry
from robustbench_med.training import image_grid
from robustbench_med.training.plots import PictureWarning, curves, rounds


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    return Registry(files=[TOY])


def trained(toys: Registry, name: str, **options: str) -> Artifact:
    artifact = rbmed.train_defense(name, "stripes", registry=toys, **options)
    assert artifact is not None
    return artifact


def drawn(artifact: Artifact) -> dict[str, tuple[int, int]]:
    """Width and height of each picture."""
    sizes = {}
    for file in sorted((artifact.folder / "pictures").iterdir()):
        head = file.read_bytes()[:24]
        assert head.startswith(b"\x89PNG\r\n\x1a\n"), file
        sizes[file.name] = (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
    return sizes


def test_a_training_leaves_pictures_of_a_size_to_look_at(toys: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, purifier = toys.load("detector", "roughness"), toys.load("purifier", "retouch")
    monkeypatch.setattr(detector, "error_map", lambda self, x, system, rng: (x - self.mean).square().mean(1))
    monkeypatch.setattr(purifier, "pictures", lambda self, x, rng: {"image": x, "mean": self.mean.expand_as(x)})
    artifact = trained(toys, "guarded:purifier=several", strategy="own")
    sizes = drawn(artifact)
    assert set(sizes) == {"detector.png", "purifier.png", "samples.png", "scores.png"}
    assert all(250 < side < 1300 for size in sizes.values() for side in size), sizes
    assert all(file.stat().st_size < 100_000 for file in (artifact.folder / "pictures").iterdir())


def test_no_digest_and_no_weights_depend_on_pictures(toys: Registry) -> None:
    artifact = trained(toys, "guarded")
    shutil.rmtree(artifact.folder / "pictures")
    assert Artifact(artifact.folder).digest == artifact.digest
    assert not any("pictures" in file for file in artifact.manifest["files"])
    pipeline = rbmed.load_defense("guarded", "stripes", registry=toys).pipeline("site-0")
    assert pipeline.gate is not None


def test_a_part_whose_pictures_fail_costs_a_warning_only(toys: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, x: torch.Tensor, rng: rbmed.Stream) -> dict[str, torch.Tensor]:
        raise RuntimeError("no\nimage")

    monkeypatch.setattr(toys.load("purifier", "blur"), "pictures", broken)
    monkeypatch.setattr(toys.load("detector", "roughness"), "pictures", lambda self, x, rng: {"image": x[:, 0]})
    monkeypatch.setattr(toys.load("detector", "roughness"), "error_map", lambda self, x, system, rng: x[:, 0, :1])
    with pytest.warns(PictureWarning) as caught:
        artifact = trained(toys, "guarded")
    assert [str(warning.message) for warning in caught] == [
        "no picture of detector 'roughness': "
        "ValueError: picture 'error map' of images (4, 1, 8, 8) has shape (4, 1, 8)",
        "no picture of purifier 'blur': RuntimeError: no image",
    ]
    assert set(drawn(artifact)) == {"samples.png", "scores.png"}


@pytest.mark.filterwarnings("always")
def test_the_command_names_the_pictures_and_the_parts_without(toys: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, x: torch.Tensor, rng: rbmed.Stream) -> dict[str, torch.Tensor]:
        raise RuntimeError("no image")

    monkeypatch.setattr(toys.load("purifier", "blur"), "pictures", broken)
    monkeypatch.setattr("robustbench_med.cli.commands.train.registry", lambda plugin: toys)
    shown = invoke("train", "guarded", "--dataset", "stripes")
    assert shown.exit_code == 0
    assert "pictures/" in shown.stdout
    assert "samples.png, scores.png" in shown.stdout
    assert "warning: no picture of purifier 'blur': RuntimeError: no image" in shown.stderr


def test_a_defense_of_a_classifier_alone_has_samples_and_its_learning(
    toys: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = toys.load("strategy", "pooled").train

    def train(self, build, clients, job):  # type: ignore[no-untyped-def]
        done = kept(self, build, clients, job)
        return rbmed.Federated(done.shared, done.personal, [{"loss": 2.0}, {"loss": 1.0}])

    monkeypatch.setattr(toys.load("strategy", "pooled"), "train", train)
    assert set(drawn(trained(toys, "bare"))) == {"classifier-learning.png", "samples.png"}


HISTORY: list[dict[str, object]] = [
    {"round": 1, "clients": {"a": {"loss": 3.0, "accuracy": 0.5}, "b": {"loss": 2}}},
    {"round": 2, "seconds": 1.0, "clients": {"a": {"loss": float("nan")}, "b": {"loss": 1.0}}},
]


def test_curves_hold_the_figures_of_each_client() -> None:
    assert curves(HISTORY, "loss") == {"a": [(1, 3.0)], "b": [(1, 2.0), (2, 1.0)]}
    assert curves(HISTORY, "accuracy") == {"a": [(1, 0.5)]}
    assert curves(HISTORY, "auc") == {}
    assert curves([{"loss": 0.5}, {"loss": 0.25, "clients": 4}], "loss") == {"all clients": [(1, 0.5), (2, 0.25)]}


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (HISTORY, HISTORY),
        ({"rounds": HISTORY, "clients": {}}, HISTORY),
        ({"clients": {"a": {"images": 3}}}, []),
        ({"loss": 0.2}, []),
        ([{"loss": 1.0}, "odd"], [{"loss": 1.0}]),
    ],
)
def test_rounds_are_found_in_any_metrics(metrics: object, expected: object) -> None:
    assert rounds(metrics) == expected


def test_one_scale_serves_all_images_of_a_row() -> None:
    x = torch.tensor([0.0, 0.25, 1.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    assert image_grid.span(x) == (0.0, 1.0)
    assert image_grid.span(x * 1.2 - 0.1) == (0.0, 1.0)
    assert image_grid.span(x * 0.1) == pytest.approx((0.0, 0.1))
    assert image_grid.span(x - 2) == (-2.0, -1.0)
    few = torch.zeros(1000).index_fill(0, torch.tensor([0]), 9.0) + torch.linspace(0, 0.4, 1000)
    assert image_grid.span(few) == pytest.approx((0.0, 0.4), abs=0.01)
    tiles = image_grid.grey(x, 0, 1)
    assert tiles.shape == (3, 2, 2, 3)
    assert tiles[:, 0, 0, 0].tolist() == [0, 64, 255]
    colour = torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1)
    assert image_grid.grey(colour, 0, 1)[0, 0, 0].tolist() == [255, 0, 128]
    hot = image_grid.heat(x[:, 0], 1.0).astype(int).sum(-1)[:, 0, 0]
    assert (np.diff(hot) > 0).all()


@pytest.mark.parametrize(("side", "width"), [(8, 128), (64, 128), (112, 112), (224, 224), (512, 128)])
def test_tiles_are_enlarged_by_whole_numbers_or_thinned_out(side: int, width: int) -> None:
    assert image_grid._sized(image_grid.blank(1, side)).shape == (1, width, width, 3)
