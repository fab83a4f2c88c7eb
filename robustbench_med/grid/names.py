"""Every name and parameter of a run, checked before anything heavy is imported; a typo costs less than a second.

What cannot be told so early is left to the run, which checks everything again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from robustbench_med.errors import BadParameter, DataError, DeviceError, UsageError
from robustbench_med.grid.config import OPTIONS, RunConfig
from robustbench_med.grid.ladder import preset
from robustbench_med.grid.options import listed, reference
from robustbench_med.interfaces.threat import unknown_access
from robustbench_med.plugins import outline
from robustbench_med.plugins.components import validate_params
from robustbench_med.plugins.references import PartRef, parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import ACCESS

#: Parameters of defenses and purifiers that name other components, and the kind of these.
NAMES = {
    "model": "model",
    "strategy": "strategy",
    "detector": "detector",
    "purifier": "purifier",
    "purifiers": "purifier",
    "training": "strategy",
}
#: Values of such parameters that name none.
NONE = ("none", "auto", "")


def check_names(config: RunConfig, registry: Registry) -> None:
    """Check the components, rungs and ladders that a configuration names, without importing torch.

    Raises:
        UnknownName, AmbiguousName, BadParameter: a name or a parameter is wrong.
        UsageError: there is no such rung or ladder.
    """
    for access in config.access:
        name, _, ladder = access.partition(":")
        if name == "ladder":
            preset(ladder or "quick")
        elif access not in ACCESS:
            raise UsageError(unknown_access(access))
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
        raise DeviceError(f"unknown device {config.device!r} (--device); valid: auto, cpu, cuda, cuda:i")
    size = str(config.batch_size)
    if size != "auto" and not (size.isdecimal() and int(size)):
        raise BadParameter(f"batch size must be 'auto' or an integer >= 1, not {config.batch_size!r} (--batch-size)")
    if config.data_root is not None and not (root := Path(config.data_root).expanduser().absolute()).exists():
        raise DataError(f"--data-root {root} is not a folder")
    if config.partition:
        check_partition(reference(config.partition, "partition"))
    for key, option in OPTIONS.items():
        if option.metadata["kind"]:
            for ref in _listed(getattr(config, key)):
                check_component(registry, option.metadata["kind"], reference(ref, key))


def check_partition(ref: PartRef | str) -> None:
    """Check a partition of patients over clients; raises `BadParameter`."""
    ref = parse(ref) if isinstance(ref, str) else ref
    scheme = outline.definition("robustbench_med.datasets.partition:scheme")
    if scheme is not None:
        with _early():
            scheme(ref)


@contextlib.contextmanager
def _early() -> Iterator[None]:
    """Let only errors of the user through: others may come of what was not imported."""
    try:
        yield
    except UsageError:
        raise
    except Exception:  # noqa: BLE001
        pass


def check_component(registry: Registry, kind: str, ref: PartRef | str) -> None:
    """Check a name and its parameters, and those of the components that these name; raises as `check_names`."""
    ref = parse(ref) if isinstance(ref, str) else ref
    entry = registry.find(kind, ref.name)
    model = outline.params_of(entry)
    if model is None:
        return
    with _early():
        params = validate_params(str(entry), model, ref.params)
        for name in params.model_fields_set & NAMES.keys() if kind in ("defense", "purifier") else ():
            for each in _listed(getattr(params, name)):
                _check_part(registry, NAMES[name], each)


def _check_part(registry: Registry, kind: str, text: Any) -> None:
    if not isinstance(text, str) or text in NONE:
        return
    try:
        ref = parse(text)
    except BadParameter:  # a text that its own component reads in another way
        return
    check_component(registry, kind, ref)


def _listed(value: Any) -> Iterable[Any]:
    return () if value is None or value == "" else listed(value)
