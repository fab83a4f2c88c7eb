"""The executors by name, with their parameters."""

from __future__ import annotations

from pydantic import Field

from robustbench_med.grid.options import Ref
from robustbench_med.grid.plan import reference
from robustbench_med.interfaces.component import Params
from robustbench_med.plugins.components import read_choice


class Local(Params):
    """One cell after another on this machine."""

    process: bool = Field(False, description="In a separate process, which is replaced when a cell breaks it.")


class OnRay(Params):
    """Several cells at a time in Ray's workers, on this machine or on the cluster that ``RAY_ADDRESS`` names."""

    workers: int | None = Field(None, ge=1, description="Workers; by default one per GPU, or as many as cores allow.")
    cpus: int = Field(1, ge=1, description="CPU cores, and torch threads, of each worker.")
    gpus: float | None = Field(
        None, ge=0, description="GPUs of each worker; by default 1 where cells run on CUDA, else 0."
    )


KINDS: dict[str, type[Params]] = {"local": Local, "ray": OnRay}


def read(ref: Ref) -> Local | OnRay:
    """The parameters of the executor that is named, such as ``ray:workers=2``.

    Raises:
        BadParameter: there is no such executor, or not with these parameters.
    """
    params = read_choice("--executor", reference(ref, "executor"), KINDS)[1]
    assert isinstance(params, Local | OnRay)
    return params
