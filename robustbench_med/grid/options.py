"""What an option of a run is made of: the types of values, how each is read, and `option`."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from robustbench_med.errors import BadParameter, UsageError
from robustbench_med.grid import filters
from robustbench_med.interfaces.threat import ThreatModel, norm_of
from robustbench_med.plugins.references import PartRef, format_ref, fraction, parse


@dataclass(frozen=True)
class _Reads:
    """Runs ``function`` on a value before pydantic checks its type, or after."""

    function: Callable[[Any], Any]
    after: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def converted(value: Any) -> Any:
            try:
                return self.function(value)
            except UsageError as error:
                raise ValueError(str(error)) from None  # `config.build` adds where the value came from

        if self.after:
            return core_schema.no_info_after_validator_function(converted, handler(source))
        return core_schema.no_info_before_validator_function(converted, handler(source))


def _number(value: Any) -> Any:
    """``"4/255"`` -> 0.0157; everything else is left to pydantic."""
    return fraction(value) if isinstance(value, str) and "/" in value else value


def _lower(value: Any) -> Any:
    """Names that differ by more than case are read in any case."""
    return value.strip().lower() if isinstance(value, str) else value


def _positive(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise BadParameter("eps must be > 0 and finite, such as 4/255")
    return value


def _path(value: Path) -> Path:
    if "\0" in str(value):
        raise BadParameter("a path must not contain a null character")
    return value


def leaves_here(text: str) -> bool:
    """Whether a path leads out of the current folder, also through a link, which may have come with its file."""
    if "\0" in text:  # refused as that of every option
        return False
    outside = not Path(text).resolve().is_relative_to(Path.cwd().resolve())
    return outside or text.startswith("~") or ".." in Path(text).parts


def _any_seed(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise BadParameter("a seed must be >= -2**63 and < 2**63, as records keep it")
    return value


def _seed(value: int) -> int:
    if not 0 <= value < 2**63:
        raise BadParameter("a seed of a training must be >= 0 and < 2**63")
    return value


def _pattern(value: Ref) -> Ref:
    filters.read(value)
    return value


def _threat(value: Any) -> ThreatModel:
    if isinstance(value, ThreatModel):
        return value
    if not isinstance(value, str | dict):
        raise BadParameter("a threat is text such as linf:4/255, or a table with norm and eps")
    return ThreatModel.parse(value)


def _evasion(value: str) -> str:
    value = value.lower()
    if value in ("orthogonal", "selective"):
        return value
    name, _, weight = value.partition(":")
    if name != "joint" or not weight:
        raise BadParameter("valid: orthogonal, selective, joint:WEIGHT such as joint:0.5")
    if not 0 < fraction(weight) < math.inf:
        raise BadParameter("the weight of joint must be a finite number > 0")
    return value


def listed(value: Any) -> Any:
    """A single value of whatever kind as a list of one; a list, or what else holds several, as it is."""
    several = value is None or (isinstance(value, Iterable) and not isinstance(value, str | dict))
    return value if several else [value]


#: A component: ``apgd:steps=20``, or a table such as ``{name = "apgd", steps = 20}``.
Ref = str | dict[str, Any]
_List = _Reads(listed)
Refs = Annotated[tuple[Ref, ...], _List]
Names = Annotated[tuple[str, ...], _List]
AnyCase = _Reads(_lower)
AnyNorm = _Reads(lambda value: norm_of(value) if isinstance(value, str) else value)
Rungs = Annotated[tuple[Annotated[str, AnyCase], ...], _List]
Patterns = Annotated[tuple[Annotated[Ref, _Reads(_pattern, after=True)], ...], _List]
Threats = Annotated[tuple[Annotated[ThreatModel, _Reads(_threat)], ...], _List]
Radii = Annotated[tuple[Annotated[float, _Reads(_number), _Reads(_positive, after=True)], ...], _List]
Seeds = Annotated[tuple[Annotated[int, _Reads(_any_seed, after=True)], ...], _List]
TrainSeeds = Annotated[tuple[Annotated[int, _Reads(_seed, after=True)], ...], _List]
Evasion = Annotated[str, _Reads(_evasion, after=True)]
Folder = Annotated[Path, _Reads(_path, after=True)]


def reference(ref: object, kind: str) -> PartRef:
    """A component from a string or a TOML table; either way the same, for a cell's id is made of it."""
    if isinstance(ref, str):
        return parse(ref)
    params: dict[str, Any] = dict(ref) if isinstance(ref, dict) else {}
    name = params.pop("name", None)
    if not isinstance(name, str):
        raise BadParameter(f"{kind} table {reprlib.repr(ref)} needs a key 'name'")
    return parse(format_ref(PartRef(name, params)))


def refuse_flags(values: Mapping[str, Any], flags: Collection[str], origin: Callable[[str], str]) -> None:
    """Raise `BadParameter` for true or false in options other than ``flags``; as numbers they would be 1 and 0."""
    for key, value in values.items():
        if key not in flags and any(each is True or each is False for each in listed(value) or ()):
            raise BadParameter(f"--{key.replace('_', '-')} {value} {origin(key)}: true and false are no values of it")


#: Groups of options, in the order of ``rbmed run --help``.
SUBJECT, DATA, THREAT = "What is evaluated", "Data and clients", "Threat model"
ATTACK, TRAINING, CERTIFICATE = "Attack and access", "Training", "Certificates (randomized smoothing)"
COMPUTE, OUTPUT = "Compute", "Output"


def option(
    default: Any, group: str, description: str, *, empty: str = "", kind: str = "", off: str = "", **limits: Any
) -> Any:
    """One option, from which the command line, the check of values and the documentation are made.

    Args:
        default: its value where it is not given.
        group: its panel in the help; empty: the option is for files and Python only.
        description: what it means.
        empty: what a default of None or () means.
        kind: kind of the component that it names, for the completion of names by the shell.
        off: flag that switches it off, for one that is on by default.
        limits: bounds, as pydantic calls them.
    """
    shown = {"group": group, "description": description, "empty": empty, "kind": kind, "off": off}
    return field(default=default, metadata=shown | limits)
