"""Pictures of a row that lie in ``gallery/``: read here, drawn by `robustbench_med.reproduction.gallery`."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field

from robustbench_med.errors import DataError, first_fault
from robustbench_med.leaderboard.render.page.figures import DASH, MINUS

MANIFEST = "gallery.json"
#: Scores below it are shown as that: their digits say nothing.
LEAST = 0.001
_Name = Annotated[str, Field(max_length=200)]
_File = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,80}\.(png|webp)$")]


class Answered(pydantic.BaseModel):
    """What a system made of an image, and what its classifier alone says."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    answer: _Name = Field(description="Of the system.")
    alone: _Name | None = Field(description="Of the classifier, without detector and purifier; null if not known.")
    score: Annotated[float, Field(allow_inf_nan=False)] | None = Field(description="Of the detector; null without one.")
    flagged: bool | None = Field(description="Whether the detector flagged the image; null without one.")
    purified: bool | None = Field(description="Whether the image was purified; null without a purifier.")

    @property
    def shown_score(self) -> str:
        """The score with three digits, whatever its size."""
        if self.score is None:
            return DASH
        if 0 < self.score < LEAST:
            return f"< {LEAST}"
        text = f"{self.score:.3f}" if abs(self.score) < 10 else f"{self.score:,.0f}"
        return "0.000" if text == "-0.000" else text.replace("-", MINUS)


class Example(pydantic.BaseModel):
    """One image, attacked.

    The file is a strip: one tile for each of the gallery's columns.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    file: _File
    width: int = Field(ge=1, le=4096)
    height: int = Field(ge=1, le=4096)
    withstood: bool = Field(description="Whether the deployed system is robust to the attack.")
    client: _Name
    truth: _Name = Field(description="Class of the image.")
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        description="Of the detector's score: above it, images are flagged; null without a detector."
    )
    before: Answered = Field(description="The image without an attack.")
    after: Answered = Field(description="The attacked image.")
    alt: str = Field(max_length=400, description="For those who do not see the picture.")
    src: str = Field("", exclude=True, description="Where it lies, as the page links it.")

    @property
    def shown_threshold(self) -> str:
        """The threshold, as scores are shown."""
        return self.before.model_copy(update={"score": self.threshold}).shown_score


class Gallery(pydantic.BaseModel):
    """The pictures of one row."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    told: str = Field(max_length=600, description="Which attack, which images, their licence.")
    columns: list[Annotated[str, Field(max_length=60)]] = Field(min_length=1, max_length=10)
    examples: list[Example] = Field(max_length=50)


def find(folder: Path, entry_id: str, linked: str | None = None) -> Gallery | None:
    """The gallery of a row; None where there is none.

    Args:
        folder: of all galleries.
        entry_id: the row.
        linked: how the page reaches the folder; None puts the images into the page.

    Raises:
        DataError: the manifest cannot be read, or names a file that is not there or is a link.
    """
    if not re.fullmatch(r"[a-z0-9.-]+", entry_id) or not (path := folder / entry_id / MANIFEST).is_file():
        return None
    try:
        gallery = Gallery.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        raise DataError(f"{path}: {first_fault(error)}; draw it again: rbmed leaderboard gallery") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    for example in gallery.examples:
        # A link of a stranger would put another file into a report.
        if (path.parent / example.file).is_symlink() or not (path.parent / example.file).is_file():
            raise DataError(
                f"{path} names {example.file}, which is not there or a link; draw it again: rbmed leaderboard gallery"
            )
    places = [path.parent / example.file for example in gallery.examples]
    sources = [_within(place) if linked is None else f"{linked}/{entry_id}/{place.name}" for place in places]
    examples = [e.model_copy(update={"src": src}) for e, src in zip(gallery.examples, sources, strict=True)]
    return gallery.model_copy(update={"examples": examples})


def _within(picture: Path) -> str:
    kind = picture.suffix.removeprefix(".")
    return f"data:image/{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"
