"""What the free-form parts of a record must hold, so that whoever reads a record of a stranger can rely on it.

Each part may hold more. In `robustbench_med.records.record` the parts are plain dictionaries; `checked` compares
them with these shapes when a record is made or read.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

import pydantic
from pydantic import Field
from typing_extensions import TypedDict

_OPEN = pydantic.ConfigDict(extra="allow", allow_inf_nan=False)
#: Text that a terminal shows as it is: without control characters.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
#: What was asked for, by option: as it stands on a command line.
Asked = dict[Name, Name | Count | list[Name] | None]


class Component(TypedDict):
    """A component as it was named."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    name: Name
    params_passed: dict[Name, Any]


class Dataset(Component):
    """Of `Record.dataset`."""

    synthetic: bool
    digest: NotRequired[Name]
    partition: NotRequired[Name | None]
    asked: NotRequired[Asked]


class Federation(TypedDict):
    """What a training over clients cost."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    rounds: Count
    clients: Count
    bytes_sent_per_round: float
    suspected: dict[Name, Count]


class Weights(TypedDict):
    """Which weights were measured."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    digest: NotRequired[Name]
    seed: NotRequired[int | None]
    federation: NotRequired[Federation | None]


class Defense(Component):
    """Of `Record.defense`."""

    strategy: NotRequired[Component]
    asked: NotRequired[dict[Name, Name]]
    replaced: NotRequired[dict[Name, Name]]
    weights: NotRequired[Weights]
    reference: NotRequired[Text]
    parameters: NotRequired[dict[Name, Count]]
    randomized: NotRequired[bool]


class Attack(Component):
    """Of `Record.attack`."""

    rungs: NotRequired[list[Component]]
    asked: NotRequired[Asked]


class Threat(TypedDict):
    """Of `Record.threat`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    norm: Name
    eps: Annotated[float, Field(gt=0, le=1e6)]
    access: Name
    goal: NotRequired[Name]


class Climbed(TypedDict):
    """Of `Record.rungs`: an attack that ran, or could not after all."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    rung: Name
    access: Name
    attacked: Count
    # A share, drawn as a bar: means may round to a little over one.
    withstanding: Annotated[float, Field(ge=0, le=1.000001)] | None
    broken: NotRequired[Count | None]
    gradients_mean: float
    queries_mean: float
    seconds: float
    reason: Text | None


class LeftOut(TypedDict):
    """Of `Record.rungs`: an attack that was not tried, and why."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    rung: Name
    access: Name
    reason: Annotated[Text, Field(min_length=1)]


class Between(TypedDict):
    """Of `Record.between_clients`: a figure's distribution over the clients."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    mean: float
    worst: float
    spread: float
    worst_client: Name


class Diagnostics(TypedDict):
    """Of `Record.diagnostics`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    flags: NotRequired[list[Name]]


class Provenance(TypedDict):
    """Of `Record.provenance`."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    versions: NotRequired[dict[Name, Name]]
    commit: NotRequired[Name | None]
    hardware: NotRequired[dict[Name, Any]]
    device: NotRequired[Name]
    flags: NotRequired[dict[Name, Any]]
    command: NotRequired[Name | None]


def checked(shape: Any) -> pydantic.AfterValidator:
    """A check that a value has this shape, which leaves the value as it is."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(shape)

    def check(value: Any) -> Any:
        adapter.validate_python(value, strict=True)
        return value

    return pydantic.AfterValidator(check)
