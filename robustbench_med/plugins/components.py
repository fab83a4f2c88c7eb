"""Components by reference: find the plugin, validate the parameters, build the instance.

pydantic and the targets are imported only when a component is built.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from robustbench_med.errors import BadParameter, near
from robustbench_med.plugins.calls import process_kept
from robustbench_med.plugins.entries import load_target
from robustbench_med.plugins.references import FIRST, PartRef, fraction, parse, split_list, unbracket

if TYPE_CHECKING:
    import pydantic
    from pydantic.fields import FieldInfo

    from robustbench_med.plugins.entries import RegistryEntry
    from robustbench_med.plugins.registry import Registry

P = TypeVar("P", bound="pydantic.BaseModel")

#: Of the component that is being built.
_registry: ContextVar[Registry | None] = ContextVar("registry", default=None)


@dataclass(frozen=True)
class Resolved:
    """A reference whose class is imported and whose parameters are valid."""

    entry: RegistryEntry
    cls: type[Any]
    params: pydantic.BaseModel


def create(registry: Registry, kind: str, ref: PartRef | str, **arguments: Any) -> Any:
    """Build the component ``ref`` of ``kind``; ``arguments`` are passed to its constructor with the parameters.

    Raises:
        UnknownName, AmbiguousName: no plugin, or more than one, offers the name.
        BadParameter: a parameter is unknown, of the wrong type or out of range.
        UsageError: the plugin's class cannot be imported.
    """
    made = resolve(registry, kind, ref)
    token = _registry.set(registry)
    try:
        with process_kept():
            component = made.cls(made.params, **arguments)
    finally:
        _registry.reset(token)
    component.spec_name, component.spec_revision = made.entry.spec.name, made.entry.spec.revision
    return component


def current_registry() -> Registry | None:
    """The registry of the component that is being built, for components made of others; None at other times."""
    return _registry.get()


def resolve(registry: Registry, kind: str, ref: PartRef | str) -> Resolved:
    """Import the class of ``ref`` and validate its parameters without building it; errors as `create`."""
    ref = parse(ref) if isinstance(ref, str) else ref
    entry = registry.find(kind, ref.name)
    cls = load_target(entry)
    return Resolved(entry, cls, validate_params(str(entry), cls.Params, ref.params))


def all_params(params: pydantic.BaseModel) -> dict[str, Any]:
    """Every parameter, defaults included, as JSON types."""
    return params.model_dump(mode="json")


def params_passed(params: pydantic.BaseModel) -> dict[str, Any]:
    """Only the parameters that the user wrote, as JSON types."""
    return params.model_dump(mode="json", exclude_unset=True)


def valid_values(info: FieldInfo) -> str:
    """What a parameter accepts, as text: ``int >= 1``, ``ce | dlr | margin``, ``float > 0, <= 1``."""
    bounds = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}
    limits = [
        f"{sign} {getattr(rule, name)}"
        for rule in info.metadata
        for name, sign in bounds.items()
        if getattr(rule, name, None) is not None
    ]
    return f"{_type_name(info.annotation)} {', '.join(limits)}".strip()


def read_choice(
    option: str, ref: PartRef | str, kinds: Mapping[str, type[P]], others: Sequence[str] = ()
) -> tuple[str, P]:
    """Read ``name:key=value`` where ``name`` is one of a fixed set of kinds that no plugin adds to.

    Args:
        option: what the reference is for, in messages: ``--partition``, ``engine``.
        ref: the reference.
        kinds: the parameters of each kind, by name.
        others: further valid names, which the caller handles itself.

    Returns:
        The name and the validated parameters.

    Raises:
        BadParameter: there is no such kind, or a parameter is unknown, of the wrong type or out of range.
    """
    try:
        ref = parse(ref) if isinstance(ref, str) else ref
    except BadParameter as error:
        raise BadParameter(f"{option}: {error}") from None
    if ref.name not in kinds:
        known = [*others, *kinds]
        raise BadParameter(f"unknown {option} {ref.name!r}{near(ref.name, known)} valid: {', '.join(known)}")
    return ref.name, validate_params(f"{option} {ref.name}", kinds[ref.name], ref.params)


def validate_params(label: str, model: type[P], given: Mapping[str, Any]) -> P:
    """The parameters ``given`` as a ``model``; text is converted to the types of the fields.

    Raises:
        BadParameter: a parameter is unknown, of the wrong type or out of range; the message starts with ``label``.
    """
    import pydantic

    fields = model.model_fields
    if FIRST in given:
        first = next(iter(fields), None)
        if first is None or first in given:
            raise BadParameter(f"{label}: {given[FIRST]!r} is not key=value; write name:key=value,key=value")
        given = {first: given[FIRST], **{name: value for name, value in given.items() if name != FIRST}}
    try:
        values = {
            name: _typed(value, fields[name].annotation) if isinstance(value, str) and name in fields else value
            for name, value in given.items()
        }
        return model(**values)
    except BadParameter as error:
        raise BadParameter(f"{label}: {error}") from None
    except pydantic.ValidationError as error:
        faults = "; ".join(_fault(model, fault) for fault in error.errors())
        raise BadParameter(f"{label}: {faults}") from None


def _fault(model: type[pydantic.BaseModel], fault: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a part of a one-line message."""
    message: str = fault["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        valid = ", ".join(model.model_fields) or "it takes none"
        return f"unknown parameter {name!r}{near(name, model.model_fields)} valid: {valid}"
    info = model.model_fields[name]
    if fault["type"] == "missing":
        return f"parameter {name!r} is required; valid: {valid_values(info)}"
    said = "" if "valid: " in message else f"; valid: {valid_values(info)}"
    return f"{name}={fault['input']!r} {message}{said}"


def _typed(text: str, annotation: Any) -> Any:
    """Text as a value of the annotated type, where pydantic does not convert it: none, choices, lists, fractions."""
    options = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        if types.NoneType in options and text.lower() == "none":
            return None
        rest = [option for option in options if option is not types.NoneType]
        return _typed(text, rest[0]) if len(rest) == 1 else text
    if origin is typing.Annotated:
        return _typed(text, options[0])
    if origin is typing.Literal:
        return choice(text, options)
    if origin in (list, tuple, set, frozenset):
        return [_typed(item, options[0] if options else str) for item in split_list(unbracket(text))]
    return fraction(text) if annotation is float and "/" in text else text


def choice(text: str, options: Iterable[Any]) -> Any:
    """The one of ``options`` that ``text`` names, in any case; the text where none is."""
    return next((option for option in options if str(option).lower() == text.strip().lower()), text)


def _type_name(annotation: Any) -> str:
    options = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _type_name(options[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(option) for option in options)
    if origin is typing.Literal:
        return " | ".join(map(str, options))
    if origin in (list, tuple, set, frozenset):
        return f"[{_type_name(options[0])}, ...]" if options else "[...]"
    return "none" if annotation is types.NoneType else str(getattr(annotation, "__name__", annotation))
