"""Parameters of another library's attack: what a signature accepts, and how text is read for it."""

from __future__ import annotations

import difflib
import inspect
import math
import re
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from robustbench_med import fraction
from robustbench_med.errors import BadParameter

_WORDS: dict[str, Any] = {kind.__name__: kind for kind in (bool, int, float, str, tuple)} | {
    "none": None,
    "optional": None,
}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Argument:
    """One parameter.

    Attributes:
        kinds: what it may be: bool, int, float, str, tuple (of numbers) or None.
        default: what runs if the user says nothing.
        required: it has no default.
        choices: the texts it may be; empty if any.
    """

    kinds: tuple[Any, ...]
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = "|".join(self.choices) or "|".join(getattr(kind, "__name__", "none") for kind in self.kinds)
        return f"{names}, {'required' if self.required else _short(self.default)}"

    def read(self, value: Any) -> Any:
        """The value in the type that the library needs, from text or from a typed value.

        Raises:
            ValueError: it is none of the kinds, not a choice, not finite, or a count below its least.
        """
        value = self._from_text(value.strip()) if isinstance(value, str) else self._typed(value)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ValueError("is not finite")
        if isinstance(value, int | float) and not isinstance(value, bool):
            # With a negative or zero number of steps nothing runs, and the system would appear robust.
            least = 1 if self.kinds[0] is int and (self.default is None or self.default >= 1) else 0
            if value < least and (self.default is None or self.default >= least):
                raise ValueError(f"is below {least}")
        return value

    def _typed(self, value: Any) -> Any:
        value = tuple(value) if isinstance(value, list) else value
        for kind in self.kinds:
            if (value is None) if kind is None else type(value) is kind:
                return value
        if type(value) is int and float in self.kinds:
            return float(value)
        raise ValueError(f"is not {self._wanted()}")

    def _from_text(self, text: str) -> Any:
        if None in self.kinds and text.lower() == "none":
            return None
        if self.choices:
            if text not in self.choices:
                raise ValueError(f"is not {self._wanted()}")
            return text
        for kind, read in ((bool, _bool), (int, int), (float, fraction), (tuple, _tuple), (str, str)):
            if kind in self.kinds:
                try:
                    return read(text)
                except (ValueError, BadParameter):
                    continue
        raise ValueError(f"is not {self._wanted()}")

    def _wanted(self) -> str:
        return "one of " + ", ".join(self.choices or [getattr(k, "__name__", "none") for k in self.kinds])


def from_signature(
    cls: Any,
    owned: Collection[str],
    fractional: Collection[str] = (),
    choices: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Argument]:
    """The parameters of a class's constructor that a user may give.

    Args:
        cls: the library's class.
        owned: names that come from elsewhere (model, norm, eps, seed, ...).
        fractional: names whose default is an int although any number is meant.
        choices: valid texts by name, where the annotation does not say.
    """
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in owned or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        kinds = _kinds(default, parameter.annotation, name in fractional)
        texts = (choices or {}).get(name) or _literals(parameter.annotation)
        found[name] = Argument(kinds, default, required, texts)
    return found


def read_all(
    where: str, arguments: Mapping[str, Argument], given: Mapping[str, Any], owned: Mapping[str, str]
) -> dict[str, Any]:
    """The given values in the types that the library needs.

    Args:
        where: for messages, such as ``torchattacks:PGD``.
        arguments: what may be given.
        given: names and values, text or typed.
        owned: why a name may not be given, by name.

    Raises:
        BadParameter: a name is unknown, a value does not fit or a required one is missing.
    """
    values = {}
    for name, value in given.items():
        if name not in arguments:
            if name in owned:
                raise BadParameter(f"{where}: {name!r} cannot be given: {owned[name]}")
            shown = "; ".join(f"{known} ({argument})" for known, argument in arguments.items())
            raise BadParameter(f"{where}: unknown parameter {name!r}{near(name, arguments)} valid: {shown or 'none'}")
        try:
            values[name] = arguments[name].read(value)
        except ValueError as error:
            raise BadParameter(f"{where}: {name}={value!r} {error}; valid: {arguments[name]}") from None
    missing = [name for name, argument in arguments.items() if argument.required and name not in values]
    if missing:
        raise BadParameter(f"{where}: parameter {missing[0]!r} is required ({arguments[missing[0]]})")
    return values


def near(name: str, known: Iterable[str]) -> str:
    """The part of a message that suggests the names most like ``name``, whatever their case."""
    by_lower = {other.lower(): other for other in known}
    found = [by_lower[lower] for lower in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    return f", did you mean {' or '.join(map(repr, found))}?" if found else ";"


def _kinds(default: Any, annotation: Any, fractional: bool) -> tuple[Any, ...]:
    text = "" if annotation is inspect.Parameter.empty else str(annotation)
    kinds: list[Any] = [] if default is None else [type(default)]
    kinds += [_WORDS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _WORDS]
    if default is None:
        kinds = [kind for kind in kinds if kind is not None] or [float]
        kinds += [None] if "None" in text or "Optional" in text or not text else []
    if fractional:
        kinds.insert(0, float)
    return tuple(dict.fromkeys(kinds))


def _literals(annotation: Any) -> tuple[str, ...]:
    """Texts that a ``Literal``, or a union of them, allows."""
    if typing.get_origin(annotation) is typing.Literal:
        return tuple(option for option in typing.get_args(annotation) if isinstance(option, str))
    return tuple(text for option in typing.get_args(annotation) for text in _literals(option))


def _bool(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(text)
    return _TRUTH[text.lower()]


def _tuple(text: str) -> tuple[float, ...]:
    items = [item.strip() for item in text.split(",")]
    try:
        return tuple(int(item) for item in items)
    except ValueError:
        return tuple(fraction(item) for item in items)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
