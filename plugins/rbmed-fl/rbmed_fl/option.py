"""Parameters whose value names a component, such as ``malicious=scaling:factor=10``."""

from __future__ import annotations

import fractions
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pydantic

from robustbench_med import Params, parse
from robustbench_med.errors import BadParameter

P = TypeVar("P", bound=Params)


def _number(value: Any) -> Any:
    """Text such as ``1/4`` as a float; anything else unchanged, for pydantic to check."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(fractions.Fraction(value))
        except (ValueError, ZeroDivisionError):
            return value
    return value


def _list(value: Any) -> Any:
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else value


#: A float that may be written as a fraction.
Number = Annotated[float, pydantic.BeforeValidator(_number)]
#: Names separated by commas.
Names = Annotated[tuple[str, ...], pydantic.BeforeValidator(_list)]


def parse_component(field: str, text: str, kinds: Mapping[str, type[P]], none: bool = True) -> tuple[str, P]:
    """The name of the component in ``field=text`` and its validated parameters.

    A first value without a key belongs to the first parameter. ``none``: the name "none" is valid too (in messages).

    Raises:
        BadParameter: the name or a parameter is not valid.
    """
    where = f"{field}={text!r}"
    try:
        ref = parse(text)
    except BadParameter as error:
        raise BadParameter(f"{field}: {error}") from None
    if ref.name not in kinds:
        raise BadParameter(f"{where}: unknown {ref.name!r}; valid: {', '.join(['none'] * none + [*kinds])}")
    model = kinds[ref.name]
    first = next(iter(model.model_fields), "")
    try:
        return ref.name, model(**{key or first: value for key, value in ref.params.items()})
    except pydantic.ValidationError as error:
        faults = "; ".join(_fault(model, fault) for fault in error.errors())
        raise BadParameter(f"{where}: {faults}") from None


def _fault(model: type[Params], fault: Mapping[str, Any]) -> str:
    """One of pydantic's errors as part of a line."""
    message = str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")
    if not fault["loc"]:
        return message
    name = fault["loc"][0]
    if fault["type"] == "extra_forbidden":
        valid = f"valid: {', '.join(model.model_fields)}" if model.model_fields else "there are none"
        return f"unknown parameter {name or fault['input']!r}; {valid}"
    return f"{name}={fault['input']!r} {message}"
