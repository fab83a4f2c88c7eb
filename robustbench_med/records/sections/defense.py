"""`Record.defense`: which trained system was measured; `Record.surrogate`: which one lent its classifier."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from robustbench_med.files.redact import portable
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import format_ref
from robustbench_med.records.sections.base import Count, Name, NotNull, Number, RecordSection, Size, Text

if TYPE_CHECKING:
    from robustbench_med.defenses.deployment import Deployment
    from robustbench_med.defenses.pipeline import Pipeline
    from robustbench_med.grid.cell import Cell


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

    params: dict[str, Any] = Field(default_factory=dict)
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

    fpr: Number | None = None
    """Share of clean calibration images that the threshold of the detector flags."""

    strength: float | None = None
    """Strength of every purification; null for that of the detector's score, and in formats before 5."""

    gate_revision: Count = 1
    """Revision of the rule that sets the detector's threshold (`robustbench_med.defenses.gate_revision`)."""


class FederationSection(RecordSection):
    """What a training over clients cost, as seen from the clients, and which clients the strategy noticed."""

    rounds: Count
    """Number of rounds."""

    clients: Count
    """Number of clients that took part."""

    bytes_sent_per_round: Size
    """Bytes that all clients together sent, mean over the rounds."""

    bytes_received_per_round: Size = 0.0
    """Bytes that all clients together received, mean over the rounds."""

    seconds: Size = 0.0
    """Wall time of all rounds."""

    suspected: dict[Name, Count]
    """Clients that the strategy suspected of an attack, and in how many rounds."""

    missing: dict[Name, Count] = Field(default_factory=dict)
    """Clients that did not answer, and in how many rounds."""

    refused: dict[Name, Count] = Field(default_factory=dict)
    """Clients whose answer could not be merged, and in how many rounds."""

    epsilon: Size | None = None
    """Epsilon of the differential privacy of clients, over all rounds; None without."""

    delta: Size | None = None
    """Delta at which ``epsilon`` holds."""

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> FederationSection | None:
        """From the manifest of trained weights; None where no history of rounds is kept."""
        try:
            history = manifest["parts"]["classifier"]["metrics"]
            rounds = [entry["clients"] for entry in history]

            def per_round(name: str) -> float:
                received = (float(facts.get(name, 0)) for clients in rounds for facts in clients.values())
                return math.fsum(received) / len(rounds)

            def noticed(name: str) -> dict[str, int]:
                return dict(sorted(Counter(client for entry in history for client in entry.get(name, ())).items()))

            more: dict[str, Any] = dict(history[-1].get("privacy", {}))
            if refused := noticed("refused"):  # records of before have no such key
                more["refused"] = refused
            return cls(
                rounds=len(rounds),
                clients=len(set().union(*rounds)),
                bytes_sent_per_round=per_round("bytes-sent"),
                bytes_received_per_round=per_round("bytes-received"),
                seconds=math.fsum(float(entry.get("seconds", 0)) for entry in history),
                suspected=noticed("suspected"),
                missing=noticed("missing"),
                **more,
            )
        except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError):  # figures of something else
            return None


class WeightsSection(RecordSection):
    """The trained weights."""

    digest: Annotated[Name | None, NotNull] = None
    """Hash of the weights; None where the record does not have it."""

    seed: int | None = None
    """Seed of the training."""

    trained: Name | None = None
    """UTC time at which the training ended."""

    source: Name = ""
    """Where weights from the hub came from: ``hf:OWNER/NAME@COMMIT``; "" for others."""

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

    params: dict[str, Any] = Field(default_factory=dict)
    """All parameters, defaults included."""

    params_passed: dict[Name, Any]
    """Parameters that were given."""

    parts: PartsSection = PartsSection()
    """Model, strategy, detector and purifier, with all of their parameters."""

    strategy: Annotated[StrategySection | None, NotNull] = None
    """The strategy that trained the classifier, as it was named."""

    asked: dict[Name, Name] = Field(default_factory=dict)
    """Options on training that were given, by their name on the command line."""

    replaced: dict[Name, Name] = Field(default_factory=dict)
    """Model or strategy that took the place of the defense's own."""

    weights: WeightsSection = WeightsSection()
    """The trained weights."""

    reference: Text = ""
    """Where the defense is published."""

    parameters: dict[Name, Count] = Field(default_factory=dict)
    """Number of parameters of each deployed network."""

    randomized: Annotated[bool | None, NotNull] = None
    """Two answers to one image may differ; None where the record does not say."""

    @classmethod
    def of(cls, cell: Cell, deployment: Deployment, pipeline: Pipeline | None = None) -> DefenseSection:
        """The defense of a cell; with a pipeline of it also the size of its networks and whether it is random."""
        resolved, trained, weights = deployment.resolved, cell.trained, deployment.artifact
        strategy, manifest = resolved.recipe.strategy, deployment.artifact.manifest
        refs = {"model": trained.model, "strategy": trained.strategy}
        deployed: dict[str, Any] = {}
        if pipeline is not None:
            sizes = {name: sum(each.numel() for each in part.parameters()) for name, part in pipeline.named_children()}
            deployed = {"parameters": sizes, "randomized": pipeline.stochastic}
        return cls(
            name=cell.defense.name,
            distribution=f"{resolved.entry.distribution} {resolved.entry.version}",
            revision=resolved.entry.spec.revision,
            params=portable(all_params(resolved.defense.params)),
            params_passed=portable(dict(cell.defense.params)),
            parts=PartsSection(**portable(resolved.describe_deployed())),
            strategy=StrategySection(name=strategy.name, params_passed=portable(dict(strategy.params))),
            asked=portable(trained.options_given())
            | ({} if trained.seed is None else {"train-seed": str(trained.seed)}),
            replaced={kind: portable(format_ref(ref)) for kind, ref in refs.items() if ref is not None},
            weights=WeightsSection(
                digest=weights.digest,
                seed=manifest.get("seed"),
                trained=manifest.get("created"),
                federation=FederationSection.of(manifest),
                **({"source": weights.source} if weights.source else {}),
            ),
            reference=resolved.entry.spec.reference,
            **deployed,
        )


class SurrogateSection(RecordSection):
    """The defense whose classifier the rung `transfer` attacked in place of the deployed one."""

    name: Name = ""
    """Name of the defense."""

    params: dict[str, Any] = Field(default_factory=dict)
    """All parameters, defaults included."""

    digest: Name = ""
    """Hash of the weights."""

    seed: int | None = None
    """Seed of the training."""

    @classmethod
    def of(cls, deployment: Deployment) -> SurrogateSection:
        """The defense of a deployment."""
        return cls(
            name=deployment.resolved.entry.spec.name,
            params=portable(all_params(deployment.resolved.defense.params)),
            digest=deployment.artifact.digest,
            seed=deployment.artifact.manifest.get("seed"),
        )
