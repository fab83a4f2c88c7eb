"""The executors by name, with their parameters."""

from __future__ import annotations

from pydantic import Field

from robustbench_med.grid.options import Ref, reference
from robustbench_med.interfaces.component import Params
from robustbench_med.plugins.components import read_choice


class Local(Params):
    """Cells on this machine: one after another in this process, or in processes of their own."""

    process: bool = Field(False, description="In a separate process, which is replaced when a cell breaks it.")
    workers: int = Field(1, ge=1, le=256, description="Cells at the same time, each in a separate process.")
    cpus: int | None = Field(
        None, ge=1, description="Torch threads of each worker; by default those of the run, divided among the workers."
    )


class OnRay(Params):
    """Several cells at a time in Ray's workers, on this machine or on the cluster that ``RAY_ADDRESS`` names."""

    workers: int | None = Field(None, ge=1, description="Workers; by default one per GPU, or as many as cores allow.")
    cpus: int = Field(1, ge=1, description="CPU cores, and torch threads, of each worker.")
    gpus: float | None = Field(
        None, ge=0, description="GPUs of each worker; by default 1 where cells run on CUDA, else 0."
    )


class OnSlurm(Params):
    """Cells as tasks of a Slurm job array; the output folder is on a file system that all nodes share."""

    tasks: int = Field(2, ge=1, le=10000, description="Tasks of the array, which divide the cells.")
    cpus: int = Field(1, ge=1, description="CPU cores, and torch threads, of each task.")
    gpus: int = Field(0, ge=0, description="GPUs of each task.")
    partition: str = Field("", description="Partition; by default the cluster's.")
    account: str = Field("", description="Account that is charged.")
    qos: str = Field("", description="Quality of service.")
    time: str = Field("", description="Time limit of a task, such as 0-12.")
    memory: str = Field("", description="Memory of a task, such as 16G.")


KINDS: dict[str, type[Params]] = {"local": Local, "ray": OnRay, "slurm": OnSlurm}


def read(ref: Ref) -> Local | OnRay | OnSlurm:
    """The parameters of the executor that is named, such as ``ray:workers=2``.

    Raises:
        BadParameter: there is no such executor, or not with these parameters.
    """
    params = read_choice("--executor", reference(ref, "executor"), KINDS)[1]
    assert isinstance(params, Local | OnRay | OnSlurm)
    return params
