"""A defense described by its parts: in a TOML file, or on the command line."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

import robustbench_med as rbmed
from robustbench_med import Defense, Field


class RecipeDefense(Defense):
    """A recipe without code: ``--defense mine.toml``, or ``--defense recipe:detector=mae,purifier=[ddim:steps=4]``."""

    class Params(rbmed.Params):
        """Parameters of the recipe: the keys of the file, where a part may be a table."""

        model: str = Field("resnet", description="Classifier.")
        strategy: str = Field("fedavg", description="How it is trained over the clients.")
        detector: str = Field("none", description="Detector; none: every image is purified.")
        purifier: str = Field("none", description="Purifier; none: flagged images are rejected.")
        gate: Literal["adaptive", "full"] | float = Field(
            "adaptive", description="Strength of a purification: adaptive (follows the score), full, or a number."
        )
        fpr: float = Field(0.05, gt=0, lt=1, description="Share of clean calibration images that may be flagged.")

        @pydantic.field_validator("model", "strategy", "detector", "purifier", mode="before")
        @classmethod
        def _from_table(cls, value: Any) -> Any:
            """``{name = "ddim", steps = 4}`` is the same part as ``ddim:steps=4``."""
            if not isinstance(value, dict):
                return value
            if not isinstance(value.get("name"), str):
                raise ValueError("a part that is a table needs a name")
            params = ",".join(f"{key}=[{item}]" for key, item in value.items() if key != "name")
            return f"{value['name']}:{params}" if params else value["name"]

        @pydantic.field_validator("gate")
        @classmethod
        def _strength(cls, value: Any) -> Any:
            if isinstance(value, float) and not 0 <= value <= 1:
                raise ValueError("a strength must be in [0, 1]")
            return value

    def recipe(self) -> rbmed.Recipe:
        """The parts as given."""
        p = self.params
        return rbmed.Recipe(
            model=rbmed.parse(p.model),
            strategy=rbmed.parse(p.strategy),
            detector=None if p.detector == "none" else rbmed.parse(p.detector),
            purifier=None if p.purifier == "none" else rbmed.parse(p.purifier),
            fpr=p.fpr,
            strength=p.gate if isinstance(p.gate, float) else {"adaptive": None, "full": 1.0}[p.gate],
        )
