"""A function, a class or a module in a Python file."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import Field
from torch import nn

from rbmed_models.foreign.code import chosen, running, told
from rbmed_models.foreign.imports import dependencies
from rbmed_models.foreign.model import ForeignModel
from rbmed_models.foreign.params import ForeignParams
from robustbench_med.errors import BadParameter, UsageError

#: Names under which functions take the number of classes, the channels and the side of the images.
ALIASES = {
    "num_classes": ("num_classes", "n_classes", "nb_classes", "num_labels"),
    "channels": ("channels", "in_channels", "in_chans", "num_channels"),
    "size": ("size", "img_size", "image_size", "input_size"),
}


class PyTorchFile(ForeignModel):
    """A function in a Python file that returns a module: ``--model net.py:build``."""

    class Params(ForeignParams):
        source: str = Field(description="Python file; its code is run.")
        build: str = Field(
            "build", description="Function or class that makes a module; may take num_classes, channels, size."
        )

        def files(self) -> Mapping[str, Path]:
            """The file with what it imports that is not installed, and the weights if any."""
            return {**dependencies(Path(self.source)), **super().files()}

        def label(self) -> str:
            """``net.py:build``."""
            return f"{self.source}:{self.build}"

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module that the function returns."""
        file, name = Path(self.params.source), self.params.build
        known = {"num_classes": num_classes, "channels": channels, "size": size}
        with running(file) as module:
            found = chosen(module, file, name)
            made = copy.deepcopy(found) if isinstance(found, nn.Module) else _called(found, known, self.params.label())
        if not isinstance(made, nn.Module):
            raise BadParameter(f"{name} of {file} returns a {type(made).__name__}, not a torch.nn.Module")
        return made


def _called(function: object, known: Mapping[str, int], label: str) -> object:
    """What the function returns for those of the values that it takes."""
    build = cast("Callable[..., Any]", function)
    taken = inspect.signature(build).parameters
    given = {name: known[key] for key, names in ALIASES.items() for name in names if name in taken}
    lacking = [
        name
        for name, each in taken.items()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and name not in given
    ]
    if lacking:
        raise BadParameter(
            f"{label} needs {', '.join(lacking)}, which nothing gives; it may take num_classes, channels and size, and "
            f"everything else needs a default"
        )
    try:
        return build(**given)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise BadParameter(f"{label} fails: {told(error)}") from error
