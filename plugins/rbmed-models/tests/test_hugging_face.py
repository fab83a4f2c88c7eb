"""Image classifiers of transformers: a folder, and the hub as a local server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import robustbench_med as rbmed
from rbmed_models.foreign import hugging_face
from robustbench_med.errors import BadParameter, UsageError, WeightsError

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vision transformer that was trained at 24 px on colour images of two classes."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=24,
        patch_size=8,
        id2label={0: "Tumour", 1: "No_Tumour"},
        label2id={"Tumour": 0, "No_Tumour": 1},
    )
    folder = tmp_path_factory.mktemp("my model")
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": 24, "width": 24}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]})
    )
    return folder


@pytest.fixture(autouse=True)
def fresh() -> None:
    hugging_face.folder_of.cache_clear()


def images() -> torch.Tensor:
    return torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def test_a_folder_states_size_normalisation_and_classes(saved: Path) -> None:
    model = rbmed.load_component("model", f"hf:{saved}")
    p = model.params
    assert (p.size, p.channels, p.mean, p.std) == (24, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (p.classes, model.strategy, len(p.digest)) == (("Tumour", "No_Tumour"), "pretrained", 16)
    built = model.build(2, 1, 32).eval()
    raw = transformers.ViTForImageClassification.from_pretrained(saved).eval()
    plain = (images().expand(-1, 3, -1, -1) - torch.tensor(p.mean).view(1, 3, 1, 1)) / torch.tensor(p.std).view(
        1, 3, 1, 1
    )
    torch.testing.assert_close(built(images()), raw(plain).logits)
    assert built.embed(images()).shape == (2, 16)
    assert "not stated" not in built.notes[0]
    given = rbmed.load_component("model", f"hf:{saved},mean=[0.5],std=[0.5],classes=[a,b]").params
    assert (given.mean, given.classes) == ((0.5,), ("a", "b"))


def test_the_digest_covers_description_and_weights(saved: Path, tmp_path: Path) -> None:
    before = rbmed.load_component("model", f"hf:{saved}").params.digest
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        copy = tmp_path / name
        copy.mkdir()
        for file in saved.iterdir():
            (copy / file.name).write_bytes(file.read_bytes() + (b" " if file.name == name else b""))
        assert rbmed.load_component("model", f"hf:{copy}").params.digest != before


def test_class_names_of_the_model_are_matched_with_those_of_the_data(saved: Path, tmp_path: Path) -> None:
    few = "brainsim:size=32,train_patients=2,calibration_patients=2,test_patients=1,slices=2"
    options = {"dataset": few, "attack": "fgsm", "access": "oblivious", "limit": 4, "out": tmp_path / "out"}
    (record,) = rbmed.evaluate(model=f"hf:{saved}", **options)
    assert record.status == "ok", record.reason
    with pytest.raises(BadParameter, match=r"answers with a, b; data set 'brainsim' has .* besides"):
        rbmed.evaluate(model=f"hf:{saved},classes=[a,b]", **options)


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("hf:./gone", BadParameter, "there is no folder ./gone, and it is no name of a model on the hub"),
        ("hf:{empty}", BadParameter, "has no config.json"),
        ("hf:{headless}", WeightsError, "has no weights for classifier.bias, classifier.weight, which would be random"),
        ("hf:{wide}", BadParameter, "answers with 5 values for each image, and 2 classes are wanted"),
    ],
)
def test_what_is_no_classifier_is_refused_in_one_line(
    text: str, error: type[UsageError], part: str, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    config = transformers.ViTConfig.from_pretrained(saved)
    transformers.ViTModel(config).save_pretrained(tmp_path / "headless")
    config.num_labels = 5
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "wide")
    places = {name: tmp_path / name for name in ("empty", "headless", "wide")}
    with pytest.raises(error, match=part) as caught:
        rbmed.load_component("model", text.format(**places)).build(2, 1, 24)
    assert "\n" not in str(caught.value)


RESCALED = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "do_rescale": True, "rescale_factor": 1 / 255}


@pytest.mark.parametrize(
    "images",
    [
        RESCALED,
        {**RESCALED, "rescale_factor": 1 / 127.5, "rescale_offset": True},
        {**RESCALED, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [63.75] * 3},
        {**RESCALED, "do_normalize": False},
        {**RESCALED, "do_flip_channel_order": True, "image_processor_type": "MobileViTImageProcessor"},
    ],
    ids=["usual", "offset", "from 0 to 255", "not normalised", "blue first"],
)
def test_images_are_prepared_as_the_files_say(images: dict[str, Any], saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "net")
    (folder / "preprocessor_config.json").write_text(json.dumps({**images, "size": {"height": 24, "width": 24}}))
    given = torch.randint(0, 256, (2, 3, 24, 24), generator=torch.Generator().manual_seed(0)).float()
    ready = given.flip(1) if "do_flip_channel_order" in images else given
    ready = ready * images["rescale_factor"] if images["do_rescale"] else ready
    ready = ready - 1 if "rescale_offset" in images else ready
    if images.get("do_normalize", "image_processor_type" not in images):
        ready = (ready - images["image_mean"][0]) / images["image_std"][0]
    built = rbmed.load_component("model", f"hf:{folder}").build(2, 3, 24).eval()
    raw = transformers.ViTForImageClassification.from_pretrained(saved).eval()
    with torch.no_grad():
        torch.testing.assert_close(built(given / 255), raw(ready).logits, rtol=1e-4, atol=1e-5)


def test_a_cut_that_is_not_made_is_no_size_and_one_that_is_left_out_is_said(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "net")
    images = {**RESCALED, "size": {"height": 24, "width": 24}, "crop_size": {"height": 16, "width": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps({**images, "do_center_crop": False}))
    assert rbmed.load_component("model", f"hf:{folder}").params.size == 24
    images |= {"size": {"shortest_edge": 28}, "crop_size": 24, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    model = rbmed.load_component("model", f"hf:{folder}")
    assert model.params.size == 24
    assert any("resized to 28 px, of which the middle 24 are used" in note for note in model.build(2, 3, 24).notes)


@pytest.fixture
def hub(saved: Path) -> Iterator[str]:
    hubs = pytest.importorskip("helpers.local_hub", reason="a helper of the core's tests, in its repository")
    with hubs.local_hub() as made:
        made.repositories["lab/net"] = hubs.Repository()
        made.repositories["lab/net"].commit({file.name: file.read_bytes() for file in saved.iterdir()})
        yield made.address


def test_a_name_on_the_hub_is_downloaded(hub: str, saved: Path, tmp_path: Path) -> None:
    """In a process of its own, since the address of the hub is read once."""
    code = (
        "import robustbench_med as r; from robustbench_med.errors import UsageError\n"
        "p = r.load_component('model', 'hf:lab/net').params; print(p.digest, p.size)\n"
        "try: r.load_component('model', 'hf:lab/other')\n"
        "except UsageError as error: print(error)\n"
    )
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.split() == [rbmed.load_component("model", f"hf:{saved}").params.digest, "24"]
    assert second.startswith("model hf") or "the hub does not give a model of that name" in second
