"""How a model from elsewhere is described, and the digest of its files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic import Field

import robustbench_med as rbmed

#: The standard deviation of images in [0, 1] is 0.5 at most, and nobody divides them by much more.
MOST = 10
#: What records write in place of the folders of a file outside of the current one.
GONE = "\N{HORIZONTAL ELLIPSIS}"


class ForeignParams(rbmed.Params):
    """Description of an external model; values that are not given are those of the data set."""

    source: str = Field("", description="What to build; the first value of the reference.")
    weights: str = Field("", description="File of weights: safetensors, or a PyTorch checkpoint that holds tensors.")
    mean: tuple[float, ...] = Field((0.5,), min_length=1, description="Subtracted from pixels: one, or one a channel.")
    std: tuple[float, ...] = Field((0.25,), min_length=1, description="Divides pixels: one, or one a channel.")
    classes: tuple[str, ...] = Field((), description="Names of its classes, in order; none: those of the data set.")
    channels: int | None = Field(None, ge=1, description="Channels of its input; grey images are repeated.")
    size: int | None = Field(None, ge=1, description="Side of its input images; others are resized (bilinear).")
    output: str = Field("", description="Key, field or index of its answer that holds the logits, such as logits.")
    scores: Literal["auto", "logits", "probabilities"] = Field(
        "auto", description="What it answers with; of probabilities the logarithm is taken; auto: by trial."
    )
    layer: str = Field("", description="Layer whose output are its features; none: the input of the last linear layer.")
    state: str = Field("", description="Which state of the file of weights, such as ema; none: the one that fits.")
    digest: str = Field("", description="Digest of the files; computed, or compared if given.")

    @pydantic.model_validator(mode="after")
    def _identify(self) -> Self:
        """Different files of one name are different models, also in records."""
        found = digest_of(self.files())
        if self.digest and self.digest != found:
            raise ValueError(f"digest={self.digest} is that of other files; the digest of these is {found or 'empty'}")
        if found and not self.digest:
            object.__setattr__(self, "digest", found)
        if not all(0 < value < math.inf for value in self.std) or not all(map(math.isfinite, self.mean)):
            raise ValueError("std must be > 0, and mean and std finite")
        if twice := [name for name in self.classes if self.classes.count(name) > 1]:
            raise ValueError(f"classes names {twice[0]!r} twice, so that it is not clear which logit is its own")
        if max(self.mean) > 1 or max(self.std) > MOST:
            raise ValueError(
                f"mean={list(self.mean)} and std={list(self.std)} are of images from 0 to 255, and images here are in "
                "[0, 1]: divide both by 255"
            )
        return self

    def files(self) -> Mapping[str, Path]:
        """The files that the model depends on, by a name that does not change when all are moved."""
        return {"weights": Path(self.weights)} if self.weights else {}

    def label(self) -> str:
        """The model in messages."""
        return self.source


def digest_of(files: Mapping[str, Path]) -> str:
    """16 hex digits of the files' names and contents; empty without files.

    Raises:
        ValueError: a file cannot be read.
    """
    if not files:
        return ""
    total = hashlib.blake2b(digest_size=8)
    for name, file in sorted(files.items()):
        try:
            with file.open("rb") as source:
                total.update(name.encode("utf-8", "surrogateescape") + b"\0")
                total.update(hashlib.file_digest(source, "blake2b").digest())
        except IsADirectoryError:
            raise ValueError(f"{file} is a folder; name a file of weights, or a model with --model hf:FOLDER") from None
        except OSError as error:
            gone = "; records keep the names of files outside of the current folder, and not where they were"
            hint = f"{gone}: measure in a folder that holds them to verify it later" if str(file)[0] == GONE else ""
            raise ValueError(f"{file} cannot be read: {error.strerror}{hint}") from None
    return total.hexdigest()
