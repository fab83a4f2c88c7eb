"""What a run names on this machine, looked at before anything heavy is imported: images, clients, weights, a GPU.

A mistake here costs less than a second. What cannot be told so early is left to the run, which checks everything again.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from robustbench_med.datasets.client_names import client_names, unknown_client, unknown_site
from robustbench_med.errors import DeviceError
from robustbench_med.files.hub_name import on_hub
from robustbench_med.files.paths import data_root
from robustbench_med.grid.config import RunConfig
from robustbench_med.grid.options import Ref, reference
from robustbench_med.plugins import source_parameters
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import DatasetSpec

#: Parameters of a data set that choose among the same images.
_FOLDS = ("folds", "fold")


def check_places(config: RunConfig, registry: Registry) -> None:
    """Check that the images, the clients, the weights and the GPU that a run names are there.

    Raises:
        DataError: no images, or no such site.
        WeightsError: the folder of weights is none, or damaged.
        UsageError: there is no such client.
        DeviceError: this machine cannot have a CUDA device.
    """
    check_device(config.device)
    served = _served(config.weights)
    for name, sites in _sites(config, registry).items():
        if config.partition is not None:
            sites = _of_partition(reference(config.partition, "partition"), sites)
        for site in config.unseen_site:
            if sites is not None and site not in sites:
                raise unknown_site(site, name, sites)
        for client in config.client:
            valid = sites if served is None else served
            if valid is not None and client not in (*valid, *config.unseen_site):
                raise unknown_client(client, name, valid)


def check_images(registry: Registry, ref: Ref | PartRef, root: Path | str | None) -> Sequence[str] | None:
    """Check that a data set finds images; the names of its clients, or None where that takes reading them.

    Raises:
        DataError: there is no folder of images, or nothing in it that the data set reads.
    """
    part = ref if isinstance(ref, PartRef) else reference(ref, "dataset")
    spec = registry.find("dataset", part.name).spec
    if not isinstance(spec, DatasetSpec):
        return None
    if not spec.needs_root:
        return spec.sites or None
    place = data_root(spec.name, root, spec.root_files)
    module, _, function = spec.finder.partition(":")
    if module:
        with source_parameters.usage_errors_only():
            found: Sequence[str] | None = getattr(importlib.import_module(module), function)(place, part.params)
            return found
    return None


def _sites(config: RunConfig, registry: Registry) -> dict[str, Sequence[str] | None]:
    """The sites of each data set by its name, as far as they can be told."""
    looked: set[str] = set()
    found: dict[str, Sequence[str] | None] = {}
    for ref in config.dataset:
        part = reference(ref, "dataset")
        kept = PartRef(part.name, {key: value for key, value in part.params.items() if key not in _FOLDS})
        if repr(kept) not in looked:
            looked.add(repr(kept))
            found[registry.find("dataset", part.name).spec.name] = check_images(registry, kept, config.data_root)
    return found


def _of_partition(ref: PartRef, sites: Sequence[str] | None) -> Sequence[str] | None:
    """The clients that a partition makes."""
    make = source_parameters.definition("robustbench_med.datasets.partition:scheme")
    with source_parameters.usage_errors_only():
        made = make(ref)
        return sites if made is None else client_names(made.clients)
    return None


def _served(weights: Path | None) -> Sequence[str] | None:
    """The clients that weights were trained for; None where none are named."""
    if weights is None:
        return None
    from robustbench_med.defenses.artifact import Artifact
    from robustbench_med.defenses.hub import local

    return Artifact(local(weights) if on_hub(weights) else weights).clients


def check_device(name: str) -> None:
    """Raise `DeviceError` for a CUDA device where torch, or this machine, can have none."""
    if name.startswith("cuda") and (reason := _no_cuda()):
        raise DeviceError(
            f"device {name!r} (--device) does not exist: 0 CUDA devices found, {reason}; valid: auto, cpu"
        )


def _no_cuda() -> str:
    """Why there is certainly no CUDA device; "" where only torch can tell, as it does at once where it is loaded."""
    if "torch" in sys.modules:
        return ""
    try:
        build = importlib.metadata.version("torch").partition("+")[2]
    except importlib.metadata.PackageNotFoundError:
        return ""
    if build == "cpu":
        return "torch is installed without CUDA"
    if sys.platform != "linux" or build.startswith("rocm"):
        return ""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "this machine has no NVIDIA driver"
    return ""
