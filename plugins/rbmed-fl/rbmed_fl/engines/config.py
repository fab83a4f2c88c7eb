"""Which engine runs a federation, and its parameters.

They stand here so that a wrong one is found before anything is trained; the engine itself is a module of this package
with a function ``run(params, session)``, imported when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, ClassVar

import pydantic

from rbmed_fl import option
from rbmed_fl.option import Names
from robustbench_med import Field, Params


class Engine(Params):
    """What all engines have in common.

    ``folders``: clients run in other processes, which need a folder each for what they remember.
    """

    folders: ClassVar[bool] = True

    def names(self, clients: Iterable[str]) -> tuple[str, ...]:
        """The clients of the federation, in the order of their partition ids; ``clients`` have images here."""
        return tuple(clients)

    @property
    def elsewhere(self) -> bool:
        """True where the clients are on other machines, so that what they remember cannot be had."""
        return False

    def gaps(self, clients: int) -> bool:
        """True where a round of so many clients may go on without some of them."""
        return False


class InProcess(Engine):
    """One client after another in this process."""

    folders: ClassVar[bool] = False


class Simulation(Engine):
    """Flower's simulation on Ray, on this machine."""

    cpus: int = Field(1, ge=1, description="CPU cores, and torch threads, of each client at work.")
    gpus: float = Field(0.0, ge=0, description="Share of a GPU for each client at work.")
    cores: int | None = Field(None, ge=1, description="CPU cores for all clients together; default: all.")

    @property
    def total(self) -> int:
        """CPU cores for all clients together."""
        return self.cores or os.cpu_count() or 1

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Simulation:
        if self.cpus > self.total:
            raise ValueError(f"cpus={self.cpus} is more than all {self.total} cores")
        return self


class Deployment(Engine):
    """Flower's superlink and supernodes: processes of their own, talking over TLS.

    Without ``superlink`` they are started on this machine, a supernode for each client.
    """

    superlink: str | None = Field(
        None, pattern=r"^[^\s:/]+:\d+$", description="HOST:PORT of a running superlink; default: start everything here."
    )
    certificates: str | None = Field(None, description="File with the certificate authority of that superlink (PEM).")
    clients: Names = Field((), description="Names of that superlink's clients; default: the sites of the data set.")
    patience: float = Field(
        600.0, gt=0, allow_inf_nan=False, description="Seconds to wait for the next reply before a client is missing."
    )
    min_clients: int | None = Field(
        None, ge=1, description="Clients that must reply for a round to go on without the missing; default: all."
    )

    def names(self, clients: Iterable[str]) -> tuple[str, ...]:
        """See `Engine`."""
        return self.clients or tuple(clients)

    @property
    def elsewhere(self) -> bool:
        """See `Engine`."""
        return self.superlink is not None

    def gaps(self, clients: int) -> bool:
        """See `Engine`."""
        return self.min_clients is not None and self.min_clients < clients

    @pydantic.model_validator(mode="after")
    def _belong_together(self) -> Deployment:
        if (self.superlink is None) != (self.certificates is None):
            raise ValueError("superlink and certificates are given together or not at all")
        if self.clients and self.superlink is None:
            raise ValueError("clients are named only together with superlink")
        if len(set(self.clients)) < len(self.clients):
            raise ValueError("two clients have the same name")
        return self


KINDS: dict[str, type[Engine]] = {"inprocess": InProcess, "simulation": Simulation, "deployment": Deployment}


def read(text: str) -> tuple[str, Engine]:
    """The engine that ``engine=TEXT`` asks for, such as ``simulation:cpus=2``: its name and parameters.

    Raises:
        BadParameter: there is no such engine, or not with these parameters.
    """
    return option.read("engine", text, KINDS, none=False)


def _checked(text: str) -> str:
    read(text)
    return text


#: Text that `read` understands; anything else is refused when the parameters are made.
EngineText = Annotated[str, pydantic.AfterValidator(_checked)]
