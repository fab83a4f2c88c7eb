"""From trained weights to each client's pipeline: build the parts, fix the gate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from robustbench_med.datasets.client_names import unknown_client
from robustbench_med.datasets.finding import asked as asked_about
from robustbench_med.datasets.finding import finding_number
from robustbench_med.defenses.artifact import Artifact
from robustbench_med.defenses.building import PartBuilder
from robustbench_med.defenses.findings import OneFinding, Shifted, calibrated_thresholds
from robustbench_med.defenses.gate_revision import GATE_REVISION
from robustbench_med.defenses.gates import alike, fix_gate, lowered, read_gates, too_few, write_gates
from robustbench_med.defenses.interface_checks import IN_PLACE, altered
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.defenses.resolved import ResolvedDefense, key_of
from robustbench_med.errors import HarnessError, UsageError
from robustbench_med.files.paths import home
from robustbench_med.interfaces.dataset import Dataset, Split
from robustbench_med.interfaces.defense import Purifier
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.tasks import encode, label_counts
from robustbench_med.interfaces.training import Classifier
from robustbench_med.plugins.calls import named, process_kept
from robustbench_med.plugins.components import all_params

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Question:
    """What is asked of a classifier of several findings.

    Attributes:
        finding: the one that is asked about, as of two classes; empty: all of them.
        calibrated: thresholds are fixed on clean calibration images; else a probability of 0.5.
    """

    finding: str = ""
    calibrated: bool = False


ALL_FINDINGS = Question()


class Deployment:
    """A trained defense on a data set: one pipeline per client.

    Args:
        resolved: the defense's parts.
        artifact: their weights.
        dataset: gives the calibration images where a gate has to be fixed.
        device: where the pipelines live.
        unseen: sites without a part in the training; they get the state that all clients share.
        asked: of a multi-label data set, what is asked.

    Attributes:
        dataset: the data set as it is asked about: with two classes where it is about one finding.
    """

    def __init__(
        self,
        resolved: ResolvedDefense,
        artifact: Artifact,
        dataset: Dataset,
        device: torch.device,
        unseen: tuple[str, ...] = (),
        asked: Question = ALL_FINDINGS,
    ) -> None:
        self.resolved = resolved
        self.artifact = artifact
        self.dataset = asked_about(dataset, asked.finding)
        self.asked, self._base = asked, dataset
        self.device = device
        self.unseen = unseen
        self._builder = PartBuilder(resolved, dataset.card(), artifact, device)
        self._gates: dict[str, Gate] | None = None

    def pipeline(self, client: str) -> Pipeline:
        """The deployed system of ``client``, with its own personal state and gate; of an unseen site the shared ones.

        Raises:
            UsageError: there is no such client.
        """
        return self._pipeline(client, self.gate(client))

    def gate(self, client: str) -> Gate | None:
        """The gate of ``client``; None without a detector. It is fixed now where it was not fixed before.

        Raises:
            UsageError: there is no such client.
        """
        self.known(client)
        if self.resolved.detector is None:
            return None
        if self._gates is None:
            self._gates = self._fix_gates()
        return self._gates[client]

    def gate_notes(self, clients: Iterable[str]) -> dict[str, list[str]]:
        """By flag, lines on clients whose gate was fixed on too few images (`too_few`), or `lowered`."""
        gates, fpr = {client: self.gate(client) for client in clients}, self.resolved.recipe.fpr
        known = [(client, gate) for client, gate in gates.items() if gate is not None]
        found = {
            flag: [line for client, gate in known if (line := say(client, gate, fpr))]
            for flag, say in (("few-calibration-images", too_few), ("threshold-lowered", lowered))
        }
        return {flag: lines for flag, lines in found.items() if lines}

    def classifier(self, client: str) -> Classifier:
        """The classifier of ``client`` alone, with its own personal state; of an unseen site the shared one.

        Raises:
            UsageError: there is no such client.
        """
        self.known(client)
        return self._classifier(client)

    def training_images(self, client: str) -> Split:
        """Clean training images of ``client``; those of all where it has none, or of one class only."""
        split = self.dataset.split("train")
        split = replace(split, labels=encode(split.labels)) if split.labels.dim() > 1 else split
        own = split.by_site().get(client)
        return own if own is not None and len(set(own.labels.tolist())) > 1 else split

    def key(self, client: str) -> str:
        """A key of all that the answers of a client's deployed system depend on."""
        resolved, gate = self.resolved, self.gate(client)
        weights, data = self.artifact.digest, self.dataset.card().digest
        parts = [resolved.describe(), resolved.recipe.strength]
        return key_of([weights, *parts, data, client, client in self.unseen, gate and asdict(gate), *self._told()])

    def _own(self, client: str | None) -> str | None:
        """The client whose personal state is used; an unseen site has none, whatever weights call it."""
        return None if client in self.unseen else client

    @property
    def served(self) -> tuple[str, ...]:
        """Clients that have a pipeline: those of the federation, then the unseen sites."""
        return (*self.artifact.clients, *self.unseen)

    def known(self, client: str) -> None:
        """Raise `UsageError` if the federation has no such client."""
        if client not in self.served:
            raise unknown_client(client, self.dataset.card().name, self.served)

    def _pipeline(self, client: str | None, gate: Gate | None) -> Pipeline:
        """The pipeline with a gate, or without detector; None is a client without personal state."""
        own = self._own(client)
        purifier = cast("Purifier | None", self._builder.part("purifier", own))
        detector, strength = self._builder.detector(own) if gate else None, self.resolved.recipe.strength
        findings = self.dataset.card().task == "multi-label"
        return Pipeline(self._classifier(client), detector, purifier, gate, strength, findings)

    # --- several findings ---

    def _classifier(self, client: str | None) -> Classifier:
        """The classifier of a client (None: the shared state), with its thresholds, as it is asked."""
        classifier, card = self._builder.classifier(self._own(client)), self._base.card()
        if card.task != "multi-label":
            return classifier
        if self.asked.calibrated:
            split = self._base.split("calibration")
            own = split.by_site().get(client or "", split)
            classifier = Shifted(classifier, calibrated_thresholds(classifier, own, self.device)).eval()
        if self.asked.finding:
            classifier = OneFinding(classifier, finding_number(card, self.asked.finding)).eval()
        return classifier

    def _told(self) -> list[Any]:
        """What was asked, for keys; nothing where there is one label."""
        return [asdict(self.asked)] if self._base.card().task == "multi-label" else []

    # --- the gate ---

    def _gate_key(self) -> str:
        parts = [
            [kind, part.spec_name, part.spec_revision, all_params(part.params)]
            for kind, part in self.resolved.parts().items()
            if kind in ("detector", "purifier")
        ]
        made_of = [parts, self.resolved.recipe.fpr, self.artifact.digest, self.dataset.card().digest]
        return key_of([*made_of, GATE_REVISION, *self._told()])

    def _fix_gates(self) -> dict[str, Gate]:
        """Gates per client: read if they were fixed before, else fixed now on clean calibration images."""
        return self._gates_with_weights() or self._gates_of_here()

    def _gates_with_weights(self) -> dict[str, Gate]:
        """The gates that lie beside the weights; none where one is missing."""
        gates = read_gates(self.artifact.folder / CALIBRATION, self._gate_key())
        return gates if all(client in gates for client in self.served) else {}

    def _gates_of_here(self) -> dict[str, Gate]:
        """The gates of clean calibration images: those that were fixed on this machine, else fixed now."""
        key = self._gate_key()
        cached = home() / "calibration" / f"{key}.json"
        gates = read_gates(cached, key)
        if not all(client in gates for client in self.served):
            gates = self.calibrate()
            write_gates(cached, key, gates)
        return gates

    def moved_gates(self) -> list[str]:
        """A line on each client whose gate beside the weights is not the one that its calibration images give.

        The digest of the weights does not cover gates, so that whoever hands in a folder could choose its thresholds.
        """
        if self.resolved.detector is None or not (there := self._gates_with_weights()):
            return []
        own = self._gates_of_here()
        return [
            f"{client}: the threshold beside the weights is {there[client].threshold:.6g}, and calibration images give "
            f"{own[client].threshold:.6g}, scores from {own[client].low:.6g} to {own[client].high:.6g}"
            for client in self.served
            if not alike(there[client], own[client])
        ]

    def calibrate(self) -> dict[str, Gate]:
        """Fix the gate of every client on its own clean calibration images.

        Where there are none, at an unseen site above all, the images of all clients take their place, scored as a
        client without personal state would.
        """
        split = self.dataset.split("calibration")
        sites = split.by_site()
        lacking = [client for client in self.served if client not in sites]
        total = sum(len(sites[client]) for client in self.served if client in sites) + len(split) * bool(lacking)
        gates = {}
        with self.dataset.progress.task("calibrating on clean images", total) as bar:
            for client in self.served:
                if client in sites:
                    gates[client] = self._fix_gate(client, sites[client])
                    bar.advance(len(sites[client]))
            if lacking:
                gates |= dict.fromkeys(lacking, self._fix_gate(None, split))
                bar.advance(len(split))
        return gates

    def _fix_gate(self, client: str | None, split: Split) -> Gate:
        """The gate of a client (None: the shared state) on these images."""
        try:
            detector = self.resolved.detector
            reach = None if detector is None else detector.reach
            gate = fix_gate(self.scores(client, split), self.resolved.recipe.fpr, reach)
        except UsageError as error:
            raise UsageError(f"{client or 'the state that clients share'}: {error}") from None
        classes = len(self.dataset.card().classes)
        there = label_counts(split.labels, classes).any(0).tolist()
        return replace(gate, absent=tuple(label for label in range(classes) if not there[label]))

    @torch.inference_mode()
    def scores(self, client: str | None, split: Split, batch: int = 64) -> Tensor:
        """The detector's scores of a split's images at ``client`` (None: the shared state), float32 (N,), on the CPU.

        Raises:
            UsageError: there are no images.
        """
        if len(split) == 0:
            raise UsageError("a gate cannot be fixed without calibration images")
        # The score does not depend on the gate.
        pipeline = self._pipeline(client, Gate(0.0, 0.0, 1.0))
        parts = []
        for start in range(0, len(split), batch):
            x = split.images[start : start + batch].to(self.device)
            ids = torch.arange(start, start + len(x), device=self.device)
            own = x.clone()  # on the CPU they are those of the data set
            with process_kept():
                parts.append(pipeline.score(own, Stream.named("calibration", 0, ids)).cpu())
            if altered(own, x):
                raise HarnessError(f"{named('detector', pipeline.detector)} {IN_PLACE}")
        return torch.cat(parts)

    def save_calibration(self) -> None:
        """Fix the gates and store them next to the weights, so that a run need not render calibration images."""
        if self.resolved.detector is not None:
            write_gates(self.artifact.folder / CALIBRATION, self._gate_key(), self.calibrate())
