"""Checks of components of any kind."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pydantic

from robustbench_med.errors import BadParameter, UsageError
from robustbench_med.plugins.components import all_params, create
from robustbench_med.plugins.references import PartRef
from robustbench_med.testing.checking import Checks, NotApplicable, Subject

check = Checks()
#: Packages that `rbmed list` must not import.
HEAVY = ("diffusers", "flwr", "pandas", "pydantic", "scipy", "sklearn", "timm", "torch", "torchvision")


@check("spec", "The spec names a class of its kind and has a summary of one line")
def spec(subject: Subject) -> Iterator[str]:
    """The target is imported here."""
    summary = subject.entry.spec.summary
    if not summary.strip() or "\n" in summary:
        yield "the spec's summary must be one line"
    _ = subject.cls


@check("light-hooks", "Listing the plugin imports nothing heavy")
def light_hooks(subject: Subject) -> Iterator[str]:
    """In a fresh interpreter."""
    if not _installed(subject):
        raise NotApplicable("a single file is imported as a whole")
    if loaded := _heavy_after_listing(subject.entry.distribution):
        yield f"listing {subject.entry.distribution} imports {', '.join(loaded)}; keep hooks in a module of their own"


@check("default-constructible", "It can be built without any parameter")
def default_constructible(subject: Subject) -> Iterator[str]:
    """A component with required parameters is tested with the given parameters."""
    required = [name for name, info in subject.cls.Params.model_fields.items() if info.is_required()]
    if required and not subject.ref.params:
        yield f"parameters without a default cannot be tried: {', '.join(required)}"
    elif required:
        raise NotApplicable(f"{', '.join(required)} must be given")
    else:
        create(subject.registry, subject.entry.spec.kind, PartRef(subject.entry.qualified))


@check("parameters-described", "Every parameter has a description and a type")
def parameters_described(subject: Subject) -> Iterator[str]:
    """`Params` refuses a class whose fields have no description at all."""
    for name, info in subject.cls.Params.model_fields.items():
        text = (info.description or "").strip()
        if len(text) < 4 or "\n" in text:
            yield f"parameter {name!r} needs a description of one line, not {text!r}"
        if info.annotation is Any:
            yield f"parameter {name!r} has no type, so no value is rejected"


@check("parameters-validated", "A parameter that is unknown, of another type or out of range is rejected in one line")
def parameters_validated(subject: Subject) -> Iterator[str]:
    """A class that passes unknown parameters on, with `catalogue`, is exempt from the first rule."""
    params = subject.cls.Params
    if not params.model_config.get("frozen"):
        yield "parameters can be changed after they were validated; keep model_config frozen"
    if params.model_config.get("extra") != "forbid" and "catalogue" not in vars(params):
        yield "unknown parameters are not rejected; keep extra='forbid'"
    for name, wrong in _wrong_values(params):
        try:
            create(subject.registry, subject.entry.spec.kind, PartRef(subject.entry.qualified, {name: wrong}))
        except BadParameter as error:
            if "\n" in str(error):
                yield f"{name}={wrong!r} is rejected in more than one line"
        except UsageError:
            continue
        except Exception as error:  # noqa: BLE001 -- any exception of a plugin is a fault
            yield f"{name}={wrong!r} is rejected by {type(error).__name__}, not by its type or bounds"
        else:
            yield f"{name}={wrong!r} is accepted"


def _wrong_values(params: type[pydantic.BaseModel]) -> Iterator[tuple[str, Any]]:
    """Values that each field must reject, by its type and bounds."""
    for name, info in params.model_fields.items():
        if info.annotation in (int, float, bool):
            yield name, "neither"
        for rule in info.metadata:
            for bound, off in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
                if (limit := getattr(rule, bound, None)) is not None:
                    yield name, limit + off


@check("parameters-round-trip", "Parameters from a record build the same component again")
def parameters_round_trip(subject: Subject) -> Iterator[str]:
    """Through JSON."""
    component = subject.build()
    kept = json.loads(json.dumps(all_params(component.params)))
    again = subject.cls.Params.model_validate(kept)
    if again != component.params:
        yield f"{kept} are read back as {all_params(again)}"


def _installed(subject: Subject) -> bool:
    try:
        importlib.metadata.distribution(subject.entry.distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@cache
def _heavy_after_listing(distribution: str) -> list[str]:
    code = (
        "import json, sys; from robustbench_med.plugins.registry import Registry; "
        f"Registry(only=[{distribution!r}]).entries(); print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(answer.stdout)
    return loaded
