"""An image classifier of Hugging Face transformers, from a folder or from the hub."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pydantic
from pydantic import Field
from torch import nn

from rbmed_models.foreign.code import told
from rbmed_models.foreign.model import ForeignModel
from rbmed_models.foreign.params import ForeignParams
from robustbench_med.errors import UsageError, WeightsError

#: Files of a model; code and weights that could run code are not among them.
DESCRIPTIONS = ("config.json", "preprocessor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")


class HuggingFace(ForeignModel):
    """An image classifier of transformers: ``hf:FOLDER`` or, downloaded from the hub, ``hf:OWNER/NAME``.

    Size, mean, std and class names are those that its files state, unless they are given. No code of the hub is run.
    """

    trained = True

    class Params(ForeignParams):
        source: str = Field(description="Folder that save_pretrained wrote, or the name of a model on the hub.")
        revision: str = Field("main", description="Branch, tag or commit on the hub.")
        channels: int | None = Field(None, ge=1, description="Channels of its input; grey images are repeated.")

        @pydantic.model_validator(mode="after")
        def _as_stated(self) -> Self:
            """What its files state takes the place of the defaults."""
            for name, value in stated(folder_of(self.source, self.revision)).items():
                if name not in self.model_fields_set:
                    object.__setattr__(self, name, value)
                    self.__pydantic_fields_set__.add(name)
            return self

        def files(self) -> Mapping[str, Path]:
            """Its description and weights."""
            folder = folder_of(self.source, self.revision)
            found = [path for pattern in (*DESCRIPTIONS, *WEIGHTS, *PICKLED) for path in folder.glob(pattern)]
            return {**{path.name: path for path in found}, **super().files()}

        def label(self) -> str:
            """``hf:OWNER/NAME``."""
            return f"hf:{self.source}"

    def said(self) -> list[str]:
        """That its training has cut the middle out of larger images."""
        images = _read(folder_of(self.params.source, self.params.revision) / DESCRIPTIONS[1])
        edge, cropped = (_side(images.get(name)) for name in ("size", "crop_size"))
        if not (images.get("do_center_crop") and edge and cropped and edge > cropped):
            return []
        return [
            f"its files say that images are resized to {edge} px, of which the middle {cropped} are used; here it is "
            "given whole images"
        ]

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The classifier with its weights.

        Raises:
            WeightsError: the files have no weights for some of its layers, such as its head.
        """
        try:
            from transformers import AutoModelForImageClassification
            from transformers.utils import logging as logs
        except ImportError:
            raise UsageError("hf: models need transformers: pip install 'rbmed-models[transformers]'") from None
        quiet: Any = logs.disable_progress_bar
        quiet()
        folder = folder_of(self.params.source, self.params.revision)
        try:
            made, info = AutoModelForImageClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise WeightsError(f"{self.params.label()} cannot be loaded by transformers: {told(error)}") from error
        lacking = sorted(map(str, info["missing_keys"]))
        if lacking and not self.params.weights:
            raise WeightsError(
                f"{self.params.label()} has no weights for {', '.join(lacking[:3])}, which would be random; "
                f"name a model that was trained as a classifier"
            )
        module: nn.Module = made
        if _read(folder / DESCRIPTIONS[1]).get("do_flip_channel_order"):
            module.register_forward_pre_hook(_reversed)
        return module


def _reversed(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Images with their colours in the order blue, green, red, for a model that was trained so."""
    return (given[0].flip(1), *given[1:])


def stated(folder: Path) -> dict[str, Any]:
    """Parameters that the files of a model state: size, channels, mean, std, class names, entry of the answer."""
    found: dict[str, Any] = {"output": "logits"}
    config, images = (_read(folder / name) for name in DESCRIPTIONS)
    labels = config.get("id2label") or {}
    names = (
        tuple(str(labels[key]) for key in sorted(labels, key=int))
        if all(str(key).isdecimal() for key in labels)
        else ()
    )
    if names and not any(re.fullmatch(r"LABEL_\d+", name) for name in names) and len(set(names)) == len(names):
        found["classes"] = names
    if isinstance(config.get("num_channels"), int):
        found["channels"] = config["num_channels"]
    cropped = None if images.get("do_center_crop") is False else images.get("crop_size")
    size = cropped or images.get("size") or config.get("image_size")
    if side := _side(size):
        found["size"] = side
    return found | _normalisation(images)


def _side(size: Any) -> int | None:
    """The side that a number, or a description of a size, states."""
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return size if isinstance(size, int) else None


def _normalisation(images: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Mean and std of images in [0, 1], as far as they are stated: the files are of images from 0 to 255."""
    usual = not str(images.get("image_processor_type", "")).startswith("MobileViT")
    given = images if images.get("do_normalize", usual) or not images else {"image_mean": [0.0], "image_std": [1.0]}
    mean, std = (given.get(f"image_{name}") for name in ("mean", "std"))
    if not (isinstance(mean, list) and mean and isinstance(std, list) and std):
        return {}
    scale = 255 * float(images.get("rescale_factor") or 1 / 255)
    if images.get("do_rescale") is False:  # whoever called it did, unless its mean is none of images in [0, 1]
        scale = 255.0 if max(map(float, mean)) > 1 else 1.0
    below = 1.0 if images.get("rescale_offset") and images.get("do_rescale") is not False else 0.0
    return {
        "mean": tuple((float(value) + below) / scale for value in mean),
        "std": tuple(float(value) / scale for value in std),
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    return found if isinstance(found, dict) else {}


@functools.lru_cache(maxsize=32)
def folder_of(source: str, revision: str) -> Path:
    """The folder with the files of a model, downloaded if it is on the hub.

    Raises:
        ValueError: there is no such folder or model.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"{source} has no config.json; name a folder that save_pretrained wrote")
        return folder
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise ValueError(f"there is no folder {source}, and it is no name of a model on the hub (OWNER/NAME)")
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(source, revision=revision, allow_patterns=[*DESCRIPTIONS, *WEIGHTS]))
        if not any(path for pattern in WEIGHTS for path in found.glob(pattern)):
            found = Path(snapshot_download(source, revision=revision, allow_patterns=[*DESCRIPTIONS, *PICKLED]))
    except Exception as error:
        raise ValueError(
            f"there is no folder {source}, and the hub does not give a model of that name: {told(error, 200)}"
        ) from error
    return found
