"""Every name and parameter of a run, checked before anything heavy is imported; a typo costs less than a second.

What cannot be told so early is left to the run, which checks everything again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robustbench_med.certification.settings import NO_PURIFIER, no_certificate
from robustbench_med.errors import BadParameter, DataError, DeviceError, UsageError
from robustbench_med.grid.config import OPTIONS, RunConfig
from robustbench_med.grid.filters import read
from robustbench_med.grid.ladder import preset
from robustbench_med.grid.options import Ref, listed, reference
from robustbench_med.grid.requests import attack_label, requests_of, trained_axes
from robustbench_med.interfaces.threat import one_label, unknown_access
from robustbench_med.plugins import source_parameters
from robustbench_med.plugins.components import validate_params
from robustbench_med.plugins.references import FIRST, PartRef, format_ref, parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.source_names import check_mentioned
from robustbench_med.plugins.specs import ACCESS, DatasetSpec

#: Parameters of defenses and purifiers that name other components, and the kind of these.
NAMES = {
    "model": "model",
    "strategy": "strategy",
    "detector": "detector",
    "purifier": "purifier",
    "purifiers": "purifier",
    "training": "strategy",
}
#: Options that are a parameter of the strategy, whichever it is.
STRATEGY_OPTIONS = ("adversarial", "malicious", "engine")
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
    _check_findings(config, registry)
    for key in STRATEGY_OPTIONS:
        if (value := getattr(config, key)) is not None:
            _check_strategy_option(registry, config.strategy, key, format_ref(reference(value, key)))
    if config.certify:
        _check_certified(config, registry)
    _check_include(config)


def check_partition(ref: PartRef | str) -> None:
    """Check a partition of patients over clients; raises `BadParameter`."""
    ref = parse(ref) if isinstance(ref, str) else ref
    scheme = source_parameters.definition("robustbench_med.datasets.partition:scheme")
    if scheme is not None:
        with source_parameters.usage_errors_only():
            scheme(ref)


def _check_findings(config: RunConfig, registry: Registry) -> None:
    """Refuse a finding of a data set whose images have one label each, as far as its parameters tell."""
    for finding in filter(None, (threat.finding for threat in config.threats)):
        for each in config.dataset:
            ref = reference(each, "dataset")
            entry = registry.find("dataset", ref.name)
            task = getattr(source_parameters.params_of(entry), "model_fields", {}).get("task")
            single = task is not None and ref.params.get("task", task.default) != "multi-label"
            if single or (isinstance(entry.spec, DatasetSpec) and not entry.spec.findings):
                raise one_label(finding, entry.spec.name)


def _check_strategy_option(registry: Registry, named: Iterable[Ref], key: str, value: str) -> None:
    """Refuse a value that no strategy takes, of those that are named, or of all where a recipe chooses."""
    refused: UsageError | None = None
    refs = [reference(each, "strategy") for each in named]
    known: dict[str, Any] = {}
    for ref in refs or [PartRef(each.qualified, {}) for each in registry.entries("strategy")]:
        entry = registry.find("strategy", ref.name)
        model = source_parameters.params_of(entry, known)
        if model is None:
            return  # only importing it would tell
        if key not in model.model_fields:
            continue
        try:
            with source_parameters.usage_errors_only():
                validate_params(str(entry) if refs else f"--{key}", model, {**ref.params, key: value})
            return
        except UsageError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def _check_include(config: RunConfig) -> None:
    """Refuse patterns of cells that none can fit, of what the configuration tells alone."""
    patterns = [read(each) for each in config.include]
    if not patterns:
        return
    requests = list(requests_of(config))
    axes = zip(("dataset", "model", "strategy", "train_seed", "defense"), trained_axes(config), strict=True)
    known: dict[str, set[str]] = {
        **{key: {_label(each) for each in values} for key, values in axes},
        "attack": {attack_label(each.attack) for each in requests},
        "access": {each.access for each in requests},
        "role": {each.role for each in requests},
        "goal": {each.goal for each in config.threats},
        "finding": {each.finding for each in config.threats},
        "seed": set(map(str, config.seed)),
    }
    wrong = [(each, key) for each in patterns if (key := each.unfit(known))]
    if len(wrong) == len(patterns):
        pattern, key = wrong[0]
        valid = ", ".join(sorted(known[key] - {""})) or "none is named"
        raise BadParameter(f"--include {pattern.source}: no cell has such a value of {key!r}; valid: {valid}")


def _label(value: Any) -> str:
    if value is None:
        return ""
    return format_ref(value) if isinstance(value, PartRef) else str(value)


def _check_certified(config: RunConfig, registry: Registry) -> None:
    """Refuse what has no certificate whatever it is made of: a norm other than L2, a classifier alone."""
    for threat in config.threats:
        if threat.norm != "l2":
            raise BadParameter(f"--certify: certificates are radii in l2, not in {threat.norm}; use --norm l2")
    for ref in [*config.defense, *_listed(config.baseline)]:
        part = reference(ref, "defense")
        spec = registry.find("defense", part.name).spec
        if getattr(spec, "bare", False) and not {"purifier", FIRST} & part.params.keys():
            raise no_certificate(format_ref(part), NO_PURIFIER)


def check_component(registry: Registry, kind: str, ref: PartRef | str) -> None:
    """Check a name and its parameters, and those of the components that these name; raises as `check_names`."""
    ref = parse(ref) if isinstance(ref, str) else ref
    entry = registry.find(kind, ref.name)
    if entry.spec.names and isinstance(name := ref.params.get(FIRST), str):
        check_mentioned(entry.spec.names, name, f"{kind}/{entry.spec.name}")
    model = source_parameters.params_of(entry)
    if model is None:
        return
    with source_parameters.usage_errors_only():
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
