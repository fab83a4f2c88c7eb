"""Train every part of a defense on one data set and keep the result as an artifact."""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from robustbench_med.blueprint import Blueprint
from robustbench_med.deployment import Deployment
from robustbench_med.errors import DataError
from robustbench_med.interfaces import Classifier, Dataset, Part, TrainJob
from robustbench_med.provenance import versions
from robustbench_med.store import Artifact, new_folder, save_state, seal

SCHEMA = 1


def train(blueprint: Blueprint, dataset: Dataset, job: TrainJob, target: Path) -> Artifact:
    """Train classifier, detector and purifier; write them to ``target``; fix the gates.

    The classifier is trained over the sites of the data set as clients. Detector and purifier see all clients' clean
    training images. Work is checkpointed beside ``target``: a second call after an interruption resumes.

    Raises:
        DataError: the data set has no training images.
    """
    card = dataset.card()
    split = dataset.split("train")
    if len(split) == 0:
        raise DataError(f"data set {card.name!r} has no training images")
    scratch = target.with_name(f".{target.name}.training")
    clients = split.by_site()
    metrics: dict[str, Any] = {}
    seconds: dict[str, float] = {}

    def build() -> Classifier:
        # The weights of a fresh network come from the global generator; it is put back afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            return blueprint.model.build(len(card.classes), card.channels, card.size)

    def timed(kind: str, work: Callable[[TrainJob], Any]) -> Any:
        start = time.perf_counter()
        result = work(replace(job, checkpoints=scratch / kind))
        seconds[kind] = round(time.perf_counter() - start, 1)
        return result

    federated = timed("classifier", lambda part_job: blueprint.strategy.train(build, clients, part_job))
    metrics["classifier"] = federated.history

    with new_folder(target) as draft:
        save_state(draft / "classifier.safetensors", federated.shared)
        for client, state in federated.personal.items():
            save_state(draft / "clients" / f"{client}.safetensors", state)
        part: Part | None
        for kind, part in (("detector", blueprint.detector), ("purifier", blueprint.purifier)):
            if part is None:
                continue
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(job.seed)
                part.build(card.channels, card.size)
            part.to(job.device)
            metrics[kind] = timed(kind, lambda part_job, part=part: part.fit(split.images, part_job))
            if part.state_dict():
                save_state(draft / f"{kind}.safetensors", part.state_dict())
        manifest = {
            "schema": SCHEMA,
            "defense": blueprint.entry.spec.name,
            "distribution": f"{blueprint.entry.distribution} {blueprint.entry.version}",
            "recipe": blueprint.describe(),
            "training_keys": blueprint.training_keys(card),
            "dataset": asdict(card),
            "clients": sorted(clients),
            "train_images": {client: len(part_split) for client, part_split in clients.items()},
            "seed": job.seed,
            "device": str(job.device),
            "metrics": metrics,
            "seconds": seconds,
            "versions": versions(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        seal(draft, manifest)
        Deployment(blueprint, Artifact(draft), dataset, job.device).save_calibration()
    shutil.rmtree(scratch, ignore_errors=True)
    return Artifact(target)
