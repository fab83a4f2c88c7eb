"""`Record.defense`: which trained system was measured; `Record.surrogate`: which one lent its classifier."""

from __future__ import annotations

from typing import Annotated, Any

from robustbench_med.records.sections.base import Count, Name, NotNull, RecordSection, Text


class StrategySection(RecordSection):
    """The strategy that trained the classifier."""

    name: Name
    """Name of the strategy."""

    params_passed: dict[Name, Any]
    """Parameters that were given."""


class PartSection(RecordSection):
    """A part of the defense."""

    name: Name
    """Name of the component."""

    params: dict[str, Any] = {}
    """All parameters, defaults included."""

    revision: Count = 1
    """Revision of the component."""


class PartsSection(RecordSection):
    """What the defense is made of."""

    model: PartSection | None = None
    """The classifier's architecture."""

    strategy: PartSection | None = None
    """How the classifier was trained."""

    detector: PartSection | None = None
    """The detector of adversarial images; None without one."""

    purifier: PartSection | None = None
    """The purifier; None without one."""

    fpr: float | None = None
    """Share of clean calibration images that the threshold of the detector flags."""


class FederationSection(RecordSection):
    """What a training over clients cost, as seen from the clients, and which clients the strategy noticed."""

    rounds: Count
    """Number of rounds."""

    clients: Count
    """Number of clients that took part."""

    bytes_sent_per_round: float
    """Bytes that all clients together sent, mean over the rounds."""

    bytes_received_per_round: float = 0.0
    """Bytes that all clients together received, mean over the rounds."""

    seconds: float = 0.0
    """Wall time of all rounds."""

    suspected: dict[Name, Count]
    """Clients that the strategy suspected of an attack, and in how many rounds."""

    missing: dict[Name, Count] = {}
    """Clients that did not answer, and in how many rounds."""


class WeightsSection(RecordSection):
    """The trained weights."""

    digest: Annotated[Name | None, NotNull] = None
    """Hash of the weights; None where the record does not have it."""

    seed: int | None = None
    """Seed of the training."""

    trained: Name | None = None
    """UTC time at which the training ended."""

    federation: FederationSection | None = None
    """What the training over clients cost; None where no history of rounds was kept."""


class DefenseSection(RecordSection):
    """The deployed system."""

    name: Name
    """Name of the defense."""

    distribution: Name = ""
    """Name and version of the distribution that offers it."""

    revision: Count = 1
    """Revision of the component."""

    params: dict[str, Any] = {}
    """All parameters, defaults included."""

    params_passed: dict[Name, Any]
    """Parameters that were given."""

    parts: PartsSection = PartsSection()
    """Model, strategy, detector and purifier, with all of their parameters."""

    strategy: Annotated[StrategySection | None, NotNull] = None
    """The strategy that trained the classifier, as it was named."""

    asked: dict[Name, Name] = {}
    """Options on training that were given, by their name on the command line."""

    replaced: dict[Name, Name] = {}
    """Model or strategy that took the place of the defense's own."""

    weights: WeightsSection = WeightsSection()
    """The trained weights."""

    reference: Text = ""
    """Where the defense is published."""

    parameters: dict[Name, Count] = {}
    """Number of parameters of each deployed network."""

    randomized: Annotated[bool | None, NotNull] = None
    """Two answers to one image may differ; None where the record does not say."""


class SurrogateSection(RecordSection):
    """The defense whose classifier the rung `transfer` attacked in place of the deployed one."""

    name: Name = ""
    """Name of the defense."""

    params: dict[str, Any] = {}
    """All parameters, defaults included."""

    digest: Name = ""
    """Hash of the weights."""

    seed: int | None = None
    """Seed of the training."""
