"""From trained weights to each client's pipeline: find the weights, fill the parts, fix the gate."""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from robustbench_med.blueprint import Blueprint, key_of
from robustbench_med.components import all_params
from robustbench_med.data import DataCard, Split
from robustbench_med.errors import UsageError, WeightsError
from robustbench_med.interfaces import Dataset
from robustbench_med.paths import home
from robustbench_med.pipeline import Gate, Pipeline
from robustbench_med.store import MANIFEST, Artifact, fill, write_text
from robustbench_med.streams import Stream

if TYPE_CHECKING:
    from torch import Tensor

CALIBRATION = "calibration.json"


def artifact_folder(blueprint: Blueprint, card: DataCard) -> Path:
    """Where `rbmed train` puts this defense trained on this data set."""
    return home() / "artifacts" / f"{_stem(blueprint, card)}-{key_of(blueprint.training_keys(card))}"


def _stem(blueprint: Blueprint, card: DataCard) -> str:
    return f"{blueprint.entry.spec.name}-{card.name}"


def _candidates(blueprint: Blueprint, card: DataCard) -> list[Path]:
    """Folders that may hold the weights: trained here (the newest first), then shipped with the plugin."""
    stem = _stem(blueprint, card)
    found = [manifest.parent for manifest in (home() / "artifacts").glob(f"{stem}-*/{MANIFEST}")]
    found.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    weights: str = getattr(blueprint.entry.spec, "weights", "")
    if weights:
        package, _, folder = weights.partition(":")
        shipped = Path(str(importlib.resources.files(package))) / folder / stem
        found += [shipped] if (shipped / MANIFEST).is_file() else []
    return found


def find_artifact(blueprint: Blueprint, card: DataCard, explicit: Path | None = None) -> Artifact:
    """The trained parts: ``explicit``, else trained here, else shipped with the plugin.

    Raises:
        WeightsError: there are none, or they were trained with other parameters or on other data.
    """
    wanted = blueprint.training_keys(card)
    differs: set[str] = set()
    for folder in [explicit] if explicit else _candidates(blueprint, card):
        artifact = Artifact(folder)
        keys = artifact.manifest.get("training_keys", {})
        if all(keys.get(part) == key for part, key in wanted.items()):
            return artifact
        differs |= {part for part, key in wanted.items() if keys.get(part) != key}
    name = blueprint.entry.spec.name
    train = f"train them with `rbmed train {name} --dataset {card.name}` and the same parameters"
    if differs:
        where = f"weights {explicit}" if explicit else f"the weights at hand for {name!r} on {card.name!r}"
        raise WeightsError(
            f"{where} were trained with other parameters or data ({', '.join(sorted(differs))}); {train}"
        )
    raise WeightsError(f"no trained weights for defense {name!r} on data set {card.name!r}; {train}")


class Deployment:
    """A trained defense on a data set: one pipeline per client.

    Args:
        blueprint: the defense's parts.
        artifact: their weights.
        dataset: gives the calibration images where a gate has to be fixed.
        device: where the pipelines live.
    """

    def __init__(self, blueprint: Blueprint, artifact: Artifact, dataset: Dataset, device: torch.device) -> None:
        self.blueprint = blueprint
        self.artifact = artifact
        self.dataset = dataset
        self.device = device
        card = dataset.card()
        for kind, part in (("detector", blueprint.detector), ("purifier", blueprint.purifier)):
            if part is not None:
                part.build(card.channels, card.size)
                if part.state_dict():
                    fill(part, artifact.state(kind), artifact.folder / f"{kind}.safetensors")
                # The layout in which convolutions of small images are fastest; results change by rounding only.
                part.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._shared = artifact.state("classifier")
        self._gates: dict[str, Gate] | None = None

    def pipeline(self, client: str) -> Pipeline:
        """The deployed system of ``client``, with its own personal state and gate."""
        self.known(client)
        parts = self.blueprint
        bare = self._bare(client)
        if parts.detector is None:
            return bare
        if self._gates is None:
            self._gates = self._fix_gates()
        return Pipeline(bare.classifier, parts.detector, parts.purifier, self._gates[client])

    def known(self, client: str) -> None:
        """Raise `UsageError` if the federation has no such client."""
        if client not in self.artifact.clients:
            valid = ", ".join(self.artifact.clients)
            raise UsageError(f"unknown client {client!r} of {self.dataset.card().name!r} (--client); valid: {valid}")

    def _bare(self, client: str) -> Pipeline:
        """The pipeline without its gate: classifier and purifier only."""
        card = self.dataset.card()
        classifier = self.blueprint.model.build(len(card.classes), card.channels, card.size)
        state, source = dict(self._shared), "classifier"
        if f"clients/{client}.safetensors" in self.artifact.manifest["files"]:
            source = f"clients/{client}"
            state.update(self.artifact.state(source))
        fill(classifier, state, self.artifact.folder / f"{source}.safetensors")
        classifier.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Pipeline(classifier, None, self.blueprint.purifier)

    # --- the gate ---

    def _gate_key(self) -> str:
        parts = {k: all_params(p.params) for k, p in self.blueprint.parts().items() if k in ("detector", "purifier")}
        return key_of([parts, self.blueprint.recipe.fpr, self.artifact.digest, self.dataset.card().digest])

    def _fix_gates(self) -> dict[str, Gate]:
        """Gates per client: read where they were fixed before, else fixed now on clean calibration images."""
        key = self._gate_key()
        cached = home() / "calibration" / f"{key}.json"
        for path, unwrap in ((self.artifact.folder / CALIBRATION, True), (cached, False)):
            if path.is_file():
                try:
                    gates = json.loads(path.read_text(encoding="utf-8"))
                    gates = gates.get(key, {}) if unwrap else gates
                    found = {client: Gate(**gates[client]) for client in self.artifact.clients if client in gates}
                except (ValueError, TypeError, AttributeError) as error:
                    raise WeightsError(f"calibration {path} is unreadable ({error}); delete it to redo it") from None
                if len(found) == len(self.artifact.clients):
                    return found
        gates = self.calibrate()
        write_text(cached, json.dumps({client: asdict(gate) for client, gate in gates.items()}, indent=1) + "\n")
        return gates

    def calibrate(self) -> dict[str, Gate]:
        """Fix the gate of every client on its own clean calibration images."""
        sites = self.dataset.split("calibration").by_site()
        with self.dataset.progress.task("calibrating on clean images", sum(map(len, sites.values()))) as bar:
            gates = {}
            for client in self.artifact.clients:
                gates[client] = fix_gate(self.scores(client, sites[client]), self.blueprint.recipe.fpr)
                bar.advance(len(sites[client]))
        return gates

    @torch.inference_mode()
    def scores(self, client: str, split: Split, batch: int = 64) -> Tensor:
        """The detector's scores of a split's images at ``client``, float32 (N,) on the CPU."""
        bare = self._bare(client)
        # The gate plays no part in the score; any will do.
        pipeline = Pipeline(bare.classifier, self.blueprint.detector, bare.purifier, Gate(0.0, 0.0, 1.0))
        parts = []
        for start in range(0, len(split), batch):
            x = split.images[start : start + batch].to(self.device)
            ids = torch.arange(start, start + len(x), device=self.device)
            parts.append(pipeline.score(x, Stream.named("calibration", 0, ids)).cpu())
        return torch.cat(parts)

    def save_calibration(self) -> None:
        """Fix the gates and keep them beside the weights, so that a run need not render calibration images."""
        if self.blueprint.detector is not None:
            gates = {client: asdict(gate) for client, gate in self.calibrate().items()}
            write_text(self.artifact.folder / CALIBRATION, json.dumps({self._gate_key(): gates}, indent=1) + "\n")


def fix_gate(scores: Tensor, fpr: float) -> Gate:
    """Threshold at the (1 - fpr) quantile of clean scores; the strength map spans their range.

    The published map normalises scores within a test batch, so that a result depends on what else is in the batch.
    Here the range of the clean calibration scores plays that part, once and for all.
    """
    if len(scores) == 0:
        raise UsageError("a gate cannot be fixed without calibration images")
    threshold = float(torch.quantile(scores, 1 - fpr, interpolation="higher"))
    return Gate(threshold=threshold, low=float(scores.min()), high=float(scores.max()))
