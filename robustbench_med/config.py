"""What was asked for: TOML file + command line -> `RunConfig`."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from robustbench_med.errors import BadConfig, BadParameter
from robustbench_med.references import fraction
from robustbench_med.specs import NORMS


def _number(value: Any) -> Any:
    """``"4/255"`` -> 0.0157; everything else passes through for pydantic to judge."""
    return fraction(value) if isinstance(value, str) and "/" in value else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float | dict) else value


Ref = str | dict[str, Any]
Refs = Annotated[tuple[Ref, ...], BeforeValidator(_listed)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Eps = Annotated[float, BeforeValidator(_number)]


#: Options that an empty text switches off, such as one in the file by one on the command line.
OPTIONAL = ("baseline", "partition", "adversarial", "malicious", "engine")


class RunConfig(pydantic.BaseModel):
    """One run. Keys are the long options of ``rbmed run``; plural values make a grid.

    A component is a string, ``apgd:steps=20``, or a table, ``{name = "apgd", steps = 20}``.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    dataset: Refs = Field(("brainsim",), min_length=1, description="Data sets.")
    partition: Ref | None = Field(
        None, description="How patients are dealt to clients, such as iid:clients=10; empty: by site."
    )
    unseen_site: Names = Field((), description="Sites kept out of training, and the ones evaluated unless --client.")
    model: Refs = Field((), description="Classifier architectures, in place of the recipe's own.")
    strategy: Refs = Field((), description="Training strategies, in place of the recipe's own.")
    adversarial: Ref | None = Field(None, description="The strategy's adversarial training, such as pgd:steps=5.")
    malicious: Ref | None = Field(None, description="The strategy's malicious clients, such as scaling:clients=1.")
    engine: Ref | None = Field(None, description="What drives the federation of the strategy.")
    defense: Refs = Field(("medfedpure",), min_length=1, description="Defenses.")
    baseline: Ref | None = Field("undefended", description="Defense shown beside the others; empty for none.")
    attack: Refs = Field(("apgd",), min_length=1, description="Attacks.")
    norm: str = Field("linf", description="linf, l2 or l1, in pixel space.")
    eps: Annotated[tuple[Eps, ...], BeforeValidator(_listed)] = Field(
        (4 / 255,), min_length=1, description="Radius of the ball; fractions such as 4/255 are accepted."
    )
    access: Names = Field(
        (),
        description="Rungs of the access ladder (oblivious, transfer, bpda, full, gate, query), or all of them at once "
        "(ladder:quick, ladder:standard, ladder:full); empty: oblivious on all images and a quick ladder on a few.",
    )
    goal: Literal["untargeted", "hide-lesion", "fake-lesion"] = Field(
        "untargeted", description="untargeted, hide-lesion (images with a lesion) or fake-lesion (images without)."
    )
    surrogate: Ref = Field("undefended", description="Defense whose classifier is attacked on the rung transfer.")
    evasion: str = Field("orthogonal", description="How gate keeps the detector quiet: orthogonal or joint:WEIGHT.")
    stand_in: Literal["identity", "blur"] = Field(
        "identity", description="What bpda differentiates in place of the purifier: identity or blur."
    )
    max_gradients: int | None = Field(None, ge=1, description="Gradients an attack may spend on one image.")
    max_queries: int | None = Field(None, ge=1, description="Forward passes an attack may spend on one image.")
    client: Names = Field((), description="Clients to evaluate; empty: all, or the unseen sites where there are any.")
    limit: int | None = Field(
        None, ge=1, description="Evaluate at most this many test images, spread over the clients."
    )
    seed: Annotated[tuple[int, ...], BeforeValidator(_listed)] = Field((0,), min_length=1, description="Seeds.")
    train_seed: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_listed)] = Field(
        (), description="Seeds of the training whose weights are used; empty: any weights, the newest first."
    )
    train: bool = Field(False, description="Train the defenses that have no weights before the first cell.")
    draws: int = Field(3, ge=1, description="Fresh noise draws each image is scored on, where the pipeline is random.")
    eot: int = Field(4, ge=1, description="Noise draws averaged in each gradient, where the surface is random.")
    probe_limit: int = Field(12, ge=1, description="Images of the default probe.")
    diagnostics: Literal["off", "cheap", "full"] = Field(
        "cheap", description="Checks of the attack itself: off, cheap (at most 15 % more time) or full."
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:i.")
    batch_size: str | int = Field("auto", description="Images per chunk: auto or a number.")
    weights: Path | None = Field(None, description="Folder of trained weights for the one defense that is named.")
    data_root: Path | None = Field(None, description="Folder of the user's images.")
    out: Path = Field(Path("results"), description="Folder for records and samples.")
    executor: Ref = Field("local", description="Who runs the cells: local, or ray:workers=2 for several at a time.")
    time_limit: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds after which a cell is stopped, and counts as failed."
    )
    again: bool = Field(False, description="Measure cells again that have a record in the folder.")
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="Of the attack's passes; what they decide otherwise is confirmed in float32."
    )
    compile: bool = Field(False, description="Let torch compile the models that attacks work on.")
    channels_last: bool = Field(True, description="Memory layout of the models that attacks work on.")
    prefetch: bool = Field(False, description="Copy the next images to the GPU while some are at work.")
    share: bool = Field(True, description="Take clean predictions and images for transfer from cells that had them.")

    @pydantic.field_validator("norm")
    @classmethod
    def _norm(cls, value: str) -> str:
        if value not in NORMS:
            raise ValueError(f"valid: {', '.join(NORMS)}")
        return value

    @pydantic.field_validator("evasion")
    @classmethod
    def _evasion(cls, value: str) -> str:
        if value == "orthogonal":
            return value
        name, _, weight = value.partition(":")
        if name != "joint" or not weight:
            raise ValueError("valid: orthogonal, joint:WEIGHT such as joint:0.5")
        if not 0 < fraction(weight) < math.inf:
            raise ValueError("the weight of joint must be a finite number > 0")
        return value

    @pydantic.field_validator("eps")
    @classmethod
    def _eps(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(not math.isfinite(value) or value <= 0 for value in values):
            raise ValueError("eps must be > 0, such as 4/255")
        return values


def _stays_here(out: Any, file: Path) -> None:
    """Refuse a file, which may be a stranger's, that would have results written outside the current folder."""
    if isinstance(out, str) and (out.startswith("~") or Path(out).is_absolute() or ".." in Path(out).parts):
        raise BadConfig(
            f"configuration {file} names a folder outside the current one: out = {out!r}; name it on the command line: "
            "--out FOLDER"
        )


def build(options: dict[str, Any], file: Path | None = None) -> RunConfig:
    """A `RunConfig` from the options that were given, over those of a TOML file.

    Raises:
        BadConfig: the file is missing or not TOML.
        BadParameter: a key is unknown or a value does not fit.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadConfig(f"configuration {file} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadConfig(f"configuration {file} is not TOML: {error}") from None
        if options.get("out") is None:
            _stays_here(values.get("out"), file)
    values |= {name: value for name, value in options.items() if value is not None and value != []}
    values |= {name: None for name in OPTIONAL if values.get(name) == ""}
    try:
        return RunConfig.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        origin = f"in {file}" if file is not None and key not in options else "on the command line"
        if first["type"] == "extra_forbidden":
            raise BadParameter(f"unknown key {key!r} {origin}; valid: {', '.join(RunConfig.model_fields)}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise BadParameter(f"--{key.replace('_', '-')} {first['input']!r} {origin}: {message}") from None
