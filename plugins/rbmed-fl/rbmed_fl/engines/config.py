"""The engines that run a federation, and their parameters.

Parameters are defined here so that they are checked before anything is trained; the engine itself is a module of this
package with a function ``run(params, session)``, imported when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated

import pydantic

from rbmed_fl.option import checked
from robustbench_med import Field, Params, read_choice


class Engine(Params):
    """Base of all engines."""

    def client_names(self, clients: Iterable[str]) -> tuple[str, ...]:
        """The clients of the federation, in the order of their partition ids; ``clients`` have images here."""
        return tuple(clients)

    @property
    def remote(self) -> bool:
        """True if the clients, and so their states, are on other machines."""
        return False

    def may_miss_rounds(self, clients: int) -> bool:
        """True if a round with this number of clients may finish without some of them."""
        return False


class InProcessEngine(Engine):
    """One client after another in this process."""


class SimulationEngine(Engine):
    """Flower's simulation on Ray, on this machine."""

    cpus: int = Field(1, ge=1, description="CPU cores, and torch threads, of each running client.")
    gpus: float = Field(0.0, ge=0, description="Share of a GPU for each running client.")
    cores: int | None = Field(None, ge=1, description="CPU cores for all clients together; default: all.")

    @property
    def total(self) -> int:
        """CPU cores for all clients together."""
        return self.cores or os.cpu_count() or 1

    @pydantic.model_validator(mode="after")
    def _fits(self) -> SimulationEngine:
        if self.cpus > self.total:
            raise ValueError(f"cpus={self.cpus} is more than all {self.total} cores")
        return self


class DeploymentEngine(Engine):
    """Flower's superlink and supernodes: separate processes that communicate over TLS.

    Without ``superlink`` they are started on this machine, one supernode per client.
    """

    superlink: str | None = Field(
        None,
        pattern=r"^[^\s:/]+:\d+$",
        description="HOST:PORT of a running superlink; default: start one here.",
    )
    certificates: str | None = Field(None, description="File with the certificate authority of that superlink (PEM).")
    clients: tuple[str, ...] = Field(
        (), description="Names of that superlink's clients; default: the sites of the data set."
    )
    patience: float = Field(
        600.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds without a reply after which a client counts as missing.",
    )
    min_clients: int | None = Field(
        None, ge=1, description="Number of replies that are enough for a round; default: all clients."
    )

    def client_names(self, clients: Iterable[str]) -> tuple[str, ...]:
        """See `Engine`."""
        return self.clients or tuple(clients)

    @property
    def remote(self) -> bool:
        """See `Engine`."""
        return self.superlink is not None

    def may_miss_rounds(self, clients: int) -> bool:
        """See `Engine`."""
        return self.min_clients is not None and self.min_clients < clients

    @pydantic.model_validator(mode="after")
    def _belong_together(self) -> DeploymentEngine:
        if (self.superlink is None) != (self.certificates is None):
            raise ValueError("superlink and certificates must be given together")
        if self.clients and self.superlink is None:
            raise ValueError("clients can only be given together with superlink")
        if len(set(self.clients)) < len(self.clients):
            raise ValueError("two clients have the same name")
        return self


KINDS: dict[str, type[Engine]] = {
    "inprocess": InProcessEngine,
    "simulation": SimulationEngine,
    "deployment": DeploymentEngine,
}


def parse_engine(text: str) -> tuple[str, Engine]:
    """The name and parameters of ``engine=TEXT``, such as ``simulation:cpus=2``.

    Raises:
        BadParameter: the name or a parameter is not valid.
    """
    return read_choice("engine", text, KINDS)


#: Text that `parse_engine` accepts; checked when the parameters are created.
EngineText = Annotated[str, checked(parse_engine)]
