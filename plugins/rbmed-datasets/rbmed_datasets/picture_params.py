"""Parameters of data sets of pictures with labels."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

import robustbench_med as rbmed
from rbmed_datasets.grouping import GroupingParams
from rbmed_datasets.names import split_at_plus
from rbmed_datasets.scans import Task


def joined_by_plus(value: Any) -> Any:
    """``a+b`` as its parts; a text of the command line comes as a list of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return split_at_plus(value) if isinstance(value, str) else value


class PictureSetParams(GroupingParams):
    """Parameters of `PictureSet`."""

    classes: tuple[str, ...] = rbmed.Field(
        (), description="Classes to use, in label order ('no+yes' on the command line); empty: all, sorted."
    )
    lesion: tuple[str, ...] = rbmed.Field(
        (), description="Classes merged into one class 'lesion', the others into 'no lesion'; empty: no merging."
    )
    pages: Literal["first", "middle", "all"] = rbmed.Field(
        "first", description="Of files with several pages or frames: the first, the middle one, or all, as one patient."
    )

    min_patients: int = rbmed.Field(
        1, ge=1, description="Sites with fewer patients (or groups) are left out, and named in the card."
    )

    _joined = pydantic.field_validator("classes", "lesion", mode="before")(joined_by_plus)


class LabelledParams(PictureSetParams):
    """Parameters of data sets whose labels are given, and not made of label maps."""

    task: Task = rbmed.Field(
        "multi-class",
        description="What labels say: 'multi-class', one class of an image; 'ordinal', one grade, from the lowest to "
        "the highest of 'classes' or of their numbers; 'multi-label', several findings or none (data set 'table').",
    )
