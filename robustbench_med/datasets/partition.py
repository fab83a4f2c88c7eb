"""The assignment of patients to clients, and data sets without the training images of some sites.

A partition is written like a component, ``dirichlet:clients=10,alpha=0.4``. It changes only the
sites of the images: images, labels and their order are kept, and all images of a patient stay in one split and at one
client. A scheme gives each client a share of each class, the same in train, calibration and test, so that a client is
calibrated and tested on the mixture of labels it was trained on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustbench_med.errors import BadParameter
from robustbench_med.interfaces.component import Params
from robustbench_med.plugins.components import read_choice, validate_params
from robustbench_med.plugins.references import PartRef

#: Raised when the same parameters would assign patients differently; part of every digest.
REVISION = 1
_LEAST = "Least size of a client, as a share of the mean size; shares are drawn again until all clients have it."
_TRIES = 10_000


class Scheme(Params):
    """A way to assign patients to clients."""

    clients: int = Field(10, ge=1, le=10_000, description="Number of clients.")
    seed: int = Field(0, ge=0, description="Another seed, another partition.")

    @abstractmethod
    def shares(self, classes: int, draw: np.random.RandomState) -> NDArray[np.float64]:
        """The share of each class that each client gets, (classes, clients); every row sums to 1."""


class Iid(Scheme):
    """Equal shares of every class."""

    def shares(self, classes: int, draw: np.random.RandomState) -> NDArray[np.float64]:
        """1 / clients everywhere."""
        return np.full((classes, self.clients), 1 / self.clients)


class Dirichlet(Scheme):
    """Label skew: each class is divided among the clients by shares from a symmetric Dirichlet distribution.

    The skew of Hsu et al. 2019 (arXiv 1909.06335), drawn class by class (Yurochkin et al. 2019, arXiv 1905.12022), so
    that all patients are assigned and clients also differ in size.
    """

    alpha: float = Field(0.4, ge=1e-3, le=1e6, description="Concentration: small is skewed, large is even.")
    least: float = Field(0.25, ge=0, lt=1, description=_LEAST)

    def shares(self, classes: int, draw: np.random.RandomState) -> NDArray[np.float64]:
        """One draw from the Dirichlet distribution for each class."""
        return _fair(lambda: _dirichlet(self.alpha, (classes, self.clients), draw), self.least)


class Quantity(Scheme):
    """Clients of different sizes, their shares from a symmetric Dirichlet distribution; labels as in the whole."""

    alpha: float = Field(0.4, ge=1e-3, le=1e6, description="Concentration: small is uneven, large is even.")
    least: float = Field(0.25, ge=0, lt=1, description=_LEAST)

    def shares(self, classes: int, draw: np.random.RandomState) -> NDArray[np.float64]:
        """One draw from the Dirichlet distribution for all classes."""
        return np.tile(_fair(lambda: _dirichlet(self.alpha, (1, self.clients), draw), self.least), (classes, 1))


class Shards(Scheme):
    """Sorted by label, cut into shards, assigned at random (McMahan et al. 2017, arXiv 1602.05629).

    The cut assumes equally common classes, so that a shard has the same labels in every split.
    """

    per_client: int = Field(2, ge=1, le=1000, description="Shards of each client.")

    def shares(self, classes: int, draw: np.random.RandomState) -> NDArray[np.float64]:
        """The part of each class that each client's shards cover."""
        count = self.clients * self.per_client
        # In units of 1 / (count * classes) both cuts are whole numbers: shard s covers [s, s + 1) * classes, class k
        # covers [k, k + 1) * count.
        shard, label = np.arange(count) * classes, np.arange(classes)[:, None] * count
        covered = np.clip(np.minimum(shard + classes, label + count) - np.maximum(shard, label), 0, None)
        assigned = covered[:, draw.permutation(count)].reshape(classes, self.clients, self.per_client)
        shares: NDArray[np.float64] = assigned.sum(axis=2) / count
        return shares


SCHEMES: dict[str, type[Scheme]] = {"iid": Iid, "dirichlet": Dirichlet, "quantity": Quantity, "shards": Shards}
#: The partition by the data set's own sites, its hospitals.
SITE = "site"


def scheme(ref: PartRef) -> Scheme | None:
    """The scheme that ``ref`` names, with its parameters; None for ``site``, the data set's own hospitals.

    Raises:
        BadParameter: no such partition, or a parameter is unknown, of the wrong type or out of range.
    """
    if ref.name == SITE:
        validate_params(f"--partition {SITE}", Params, ref.params)
        return None
    return read_choice("--partition", ref, SCHEMES, others=(SITE,))[1]


def _dirichlet(alpha: float, shape: tuple[int, int], draw: np.random.RandomState) -> NDArray[np.float64]:
    """Rows from a symmetric Dirichlet distribution: normalised Gamma(alpha) draws.

    Their logarithms are drawn, as Gamma(alpha + 1) * U ** (1 / alpha), since with a small alpha all may underflow.
    """
    logs = np.log(draw.standard_gamma(alpha + 1, shape)) + np.log(1 - draw.random_sample(shape)) / alpha
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _fair(draw: Callable[[], NDArray[np.float64]], least: float) -> NDArray[np.float64]:
    """The first draw in which no client has less than ``least`` of the mean size, for equally common classes.

    A client of one or two patients can be neither calibrated nor evaluated, and most draws of ten clients have one.
    """
    shares = draw()
    for _ in range(_TRIES):
        if shares.mean(axis=0).min() * shares.shape[1] >= least:
            return shares
        shares = draw()
    raise BadParameter(
        f"--partition: {_TRIES} draws left one of {shares.shape[1]} clients with less than least={least:g} of the mean "
        f"size; use a larger alpha, fewer clients or a smaller least"
    )


def _counts(shares: NDArray[np.float64], patients: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole patients per class and client, (classes, clients), as close to ``shares`` as possible; no client is empty.

    Each class is rounded by largest remainder. A client's rounding loss in one class raises its priority in the next,
    so that equal shares also give equal sizes.
    """
    wanted = np.round(shares * patients[:, None], 9)  # a share of 3.9999999999 is 4
    counts = np.floor(wanted).astype(np.int64)
    owed = np.zeros(shares.shape[1])
    for label, total in enumerate(patients):
        rest = wanted[label] - counts[label]
        claims = np.where(rest > 0, np.round(rest + owed, 6), -np.inf)
        counts[label, np.argsort(-claims, kind="stable")[: total - counts[label].sum()]] += 1
        owed += wanted[label] - counts[label]
    while not counts.sum(axis=0).all():
        # An empty client gets a patient of the class with its largest share, from the client with most of that class.
        client = int(counts.sum(axis=0).argmin())
        spare = counts * (counts.sum(axis=0) > 1)
        label = int(np.where(spare.any(axis=1), wanted[:, client], -1).argmax())
        counts[label, spare[label].argmax()] -= 1
        counts[label, client] += 1
    return counts
