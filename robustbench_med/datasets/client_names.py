"""Names of clients, and the errors for those that do not exist. Imports nothing large."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_med.errors import DataError, UsageError


def client_names(clients: int) -> list[str]:
    """The names of the clients of a partition, as wide as the last: ``client-01``, ..., ``client-10``."""
    return [f"client-{number + 1:0{len(str(clients))}}" for number in range(clients)]


def unknown_client(client: str, dataset: str, served: Sequence[str]) -> UsageError:
    """The error for a client that does not exist."""
    return UsageError(f"unknown client {client!r} of {dataset!r} (--client); valid: {', '.join(served)}")


def unknown_site(site: str, dataset: str, known: Sequence[str]) -> DataError:
    """The error for a site that does not exist."""
    return DataError(f"data set {dataset!r} has no site {site!r} (--unseen-site); valid: {', '.join(known)}")
