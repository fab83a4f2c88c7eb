"""`Record.provenance`: with which software and hardware a cell was measured."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from robustbench_med.records.sections.base import Count, Name, RecordSection


class HardwareSection(RecordSection):
    """The machine."""

    machine: Name | None = None
    """Architecture of the processor."""

    system: Name | None = None
    """Operating system."""

    processor: Name | None = None
    """Name of the processor."""

    instructions: Name | None = None
    """Widest vector instructions that torch uses."""

    cores: Count | None = None
    """Number of cores."""

    threads: Count | None = None
    """Number of threads that torch used."""

    gpu: Name | None = None
    """Name of the GPU, where one was used."""

    cuda: Name | None = None
    """Version of CUDA."""

    cudnn: Count | None = None
    """Version of cuDNN."""


class ProvenanceSection(RecordSection):
    """Versions, commit, command, hardware and settings."""

    versions: dict[Name, Name] = Field(default_factory=dict)
    """Versions of Python, of libraries that can change a number, and of all plugins."""

    commit: Name | None = None
    """Commit of robustbench-med, with ``+changes`` if it was edited; null if it was installed."""

    command: Name | None = None
    """The command line, without paths of the machine."""

    hardware: HardwareSection = HardwareSection()
    """The machine."""

    device: Name = ""
    """Device of torch: ``cpu`` or ``cuda:0``."""

    flags: dict[Name, Any] = Field(default_factory=dict)
    """Settings of torch on precision and determinism."""

    speed: dict[Name, Any] = Field(default_factory=dict)
    """Settings that make passes faster and less exact; empty for none."""
