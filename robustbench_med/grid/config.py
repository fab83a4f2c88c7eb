"""What was asked for: TOML file + command line -> `RunConfig`."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from robustbench_med.errors import BadConfig, BadParameter, shortened
from robustbench_med.files.toml_file import locate, read
from robustbench_med.grid import filters
from robustbench_med.plugins.references import FIRST, PartRef, format_ref, fraction, parse
from robustbench_med.plugins.specs import NORMS


@contextmanager
def _for_pydantic() -> Iterator[None]:
    """A message of ours becomes one of pydantic's, so that `build` can say where the value came from."""
    try:
        yield
    except BadParameter as error:
        raise ValueError(str(error)) from None


def _number(value: Any) -> Any:
    """``"4/255"`` -> 0.0157; everything else passes through for pydantic to judge."""
    with _for_pydantic():
        return fraction(value) if isinstance(value, str) and "/" in value else value


def _positive(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise ValueError("eps must be > 0, such as 4/255")
    return value


def _path(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("no path holds a null character")
    return value


def _pattern(value: Ref) -> Ref:
    with _for_pydantic():
        filters.read(value)
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float | dict) else value


Ref = str | dict[str, Any]
Refs = Annotated[tuple[Ref, ...], BeforeValidator(_listed)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Eps = Annotated[float, BeforeValidator(_number), AfterValidator(_positive)]
Folder = Annotated[Path, AfterValidator(_path)]
Patterns = Annotated[tuple[Annotated[Ref, AfterValidator(_pattern)], ...], BeforeValidator(_listed)]
Goal = Literal["untargeted", "hide-lesion", "fake-lesion"]


def _known_norm(value: str) -> str:
    if value not in NORMS:
        raise ValueError(f"valid: {', '.join(NORMS)}")
    return value


class Threat(pydantic.BaseModel):
    """One ball and what the adversary wants in it; as text ``linf:4/255`` or ``l2:eps=0.5,goal=hide-lesion``."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    norm: str
    eps: Eps
    goal: Goal | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        with _for_pydantic():
            written = parse(value)
        params = {"eps" if name == FIRST else name: text for name, text in written.params.items()}
        return {"norm": written.name, **params}

    @pydantic.field_validator("norm")
    @classmethod
    def _norm(cls, value: str) -> str:
        return _known_norm(value)


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
    threat: Annotated[tuple[Threat, ...], BeforeValidator(_listed)] = Field(
        (), description="Threats in place of norm, eps and goal, such as linf:4/255, l2:eps=0.5,goal=hide-lesion."
    )
    access: Names = Field(
        (),
        description="Rungs of the access ladder (oblivious, transfer, bpda, full, gate, query), or all of them at once "
        "(ladder:quick, ladder:standard, ladder:full); empty: oblivious on all images and a quick ladder on a few.",
    )
    goal: Goal = Field(
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
    each_client: bool = Field(False, description="A cell for each of the clients, in place of one over all of them.")
    limit: int | None = Field(
        None, ge=1, description="Evaluate at most this many test images, spread over the clients."
    )
    seed: Annotated[tuple[int, ...], BeforeValidator(_listed)] = Field((0,), min_length=1, description="Seeds.")
    train_seed: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], BeforeValidator(_listed)] = Field(
        (), description="Seeds of the training whose weights are used; empty: any weights, the newest first."
    )
    include: Patterns = Field((), description="Only cells that fit one of these patterns, such as attack=apgd*.")
    exclude: Patterns = Field((), description="No cell that fits one of these patterns.")
    train: bool = Field(False, description="Train the defenses that have no weights before the first cell.")
    draws: int = Field(3, ge=1, description="Fresh noise draws each image is scored on, where the pipeline is random.")
    eot: int = Field(4, ge=1, description="Noise draws averaged in each gradient, where the target model is random.")
    probe_limit: int = Field(12, ge=1, description="Images of the default probe.")
    diagnostics: Literal["off", "cheap", "full"] = Field(
        "cheap", description="Checks of the attack itself: off, cheap (at most 15 % more time) or full."
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:i.")
    batch_size: str | int = Field("auto", description="Images per chunk: auto or a number.")
    weights: Folder | None = Field(None, description="Folder of trained weights for the one defense that is named.")
    data_root: Folder | None = Field(None, description="Folder of the user's images.")
    out: Folder = Field(Path("results"), description="Folder for records and samples.")
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
        return _known_norm(value)

    @pydantic.field_validator("evasion")
    @classmethod
    def _evasion(cls, value: str) -> str:
        if value == "orthogonal":
            return value
        name, _, weight = value.partition(":")
        if name != "joint" or not weight:
            raise ValueError("valid: orthogonal, joint:WEIGHT such as joint:0.5")
        with _for_pydantic():
            number = fraction(weight)
        if not 0 < number < math.inf:
            raise ValueError("the weight of joint must be a finite number > 0")
        return value

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> RunConfig:
        both = self.model_fields_set & {"norm", "eps", "goal"} if self.threat else ()
        if both:
            raise ValueError(f"threat says {', '.join(sorted(both))} too; give the one or the other")
        return self

    @property
    def threats(self) -> tuple[Threat, ...]:
        """The balls, whichever way they were given."""
        return self.threat or tuple(Threat(norm=self.norm, eps=eps, goal=self.goal) for eps in self.eps)


def _stays_here(out: Any, file: Path) -> None:
    """Refuse a file, which may be a stranger's, that would have results written outside the current folder."""
    if isinstance(out, str) and (out.startswith("~") or Path(out).is_absolute() or ".." in Path(out).parts):
        raise BadConfig(
            f"configuration {file} names a folder outside the current one: out = {out!r}; name it on the command line: "
            "--out FOLDER"
        )


#: Endings of files of weights; what else is given is the folder of a trained defense.
WEIGHTS = (".safetensors", ".pt", ".pth")


def _with_foreign_weights(values: dict[str, Any]) -> dict[str, Any]:
    """Weights in one file belong to the model, which is then used as it is.

    Raises:
        BadParameter: there is no model for them, or there are several.
    """
    weights = values.get("weights")
    if weights is None or not str(weights).endswith(WEIGHTS):
        return values
    models = _listed(values.get("model") or [])
    if len(models) != 1:
        raise BadParameter(f"--weights {weights} is a file, which needs one --model, such as net.py:build")
    model = parse(models[0]) if isinstance(models[0], str) else PartRef(models[0]["name"], models[0])
    table = {"name": model.name, **model.params, "weights": str(weights)}
    kept = {name: value for name, value in values.items() if name != "weights"}
    return {"strategy": "pretrained", **kept, "model": format_ref(PartRef(table.pop("name"), table)), "train": True}


def build(options: dict[str, Any], file: Path | None = None) -> RunConfig:
    """A `RunConfig` from the options that were given, over those of a TOML file or of a named one.

    Raises:
        BadConfig: the file is missing, not a file, too large or not TOML.
        BadParameter: a key is unknown or a value does not fit.
    """
    file = None if file is None else locate(file)
    values: dict[str, Any] = {} if file is None else read(file)
    if file is not None and options.get("out") is None:
        _stays_here(values.get("out"), file)
    values |= {name: value for name, value in options.items() if value is not None and value != []}
    values |= {name: None for name in OPTIONAL if values.get(name) == ""}
    values = _with_foreign_weights(values)
    try:
        return RunConfig.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "threat"
        typed = options.get(key) not in (None, [])
        origin = "on the command line" if typed or file is None else f"in {file}"
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise BadParameter(f"unknown key {key!r} {origin}; valid: {', '.join(RunConfig.model_fields)}") from None
        message = shortened(first["msg"].removeprefix("Value error, "))
        given = reprlib.repr(values.get(key) if len(first["loc"]) < 2 else first["input"])
        raise BadParameter(f"--{key.replace('_', '-')} {given} {origin}: {message}") from None
