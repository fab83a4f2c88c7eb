"""Trains every part of a defense on one data set and stores the parts as an artifact.

A trained part is stored separately, under a key of everything it depends on: its parameters, its revision, the data and
the seed. So parts that another defense has trained, or that were finished before an interruption, are reused. The
sites of the data set are the clients: a strategy trains a part over them, or each client fits it.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from robustbench_med.defenses.artifact import Artifact, digests, seal
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.resolved import ResolvedDefense
from robustbench_med.defenses.tasks import check_parts
from robustbench_med.defenses.weights import with_part
from robustbench_med.errors import BadParameter, DataError
from robustbench_med.files.atomic import new_folder, write_text
from robustbench_med.files.locks import locked
from robustbench_med.interfaces.dataset import Dataset
from robustbench_med.interfaces.training import TrainJob
from robustbench_med.training.parts import (
    FACTS,
    Folders,
    PartJob,
    copy_states,
    facts_of,
    is_trained,
    part_folder,
    train_part,
)
from robustbench_med.training.plots import draw

SCHEMA = 2


def train(
    resolved: ResolvedDefense,
    dataset: Dataset,
    job: TrainJob,
    target: Path,
    unseen: tuple[str, ...] = (),
    pictures: bool = True,
) -> Artifact:
    """Train all parts; write them to ``target``; calibrate the gates; draw plots if ``pictures`` are wanted.

    The sites ``unseen`` have no training images, but get gates too. A data set without training images has the clients
    of its test images.

    Raises:
        DataError: the data set has no training images.
    """
    folders = train_parts(resolved, dataset, job)
    card = dataset.card()
    facts = {name: facts_of(folder) for name, folder in folders.items()}
    with new_folder(target) as draft:
        for folder in folders.values():
            copy_states(folder, draft)
        clients = Counter(dataset.sites_of("train"))  # parts that are put together need no training images
        served = clients if clients or resolved.strategy.trains else dataset.sites_of("test")
        manifest = {
            "schema": SCHEMA,
            "defense": resolved.entry.spec.name,
            "distribution": f"{resolved.entry.distribution} {resolved.entry.version}",
            "recipe": resolved.describe(),
            "training_keys": resolved.training_keys(card),
            "dataset": asdict(card),
            "clients": sorted(set(served) - set(unseen)),
            "train_images": dict(clients),
            "seed": job.seed,
            "parts": facts,
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        seal(draft, manifest)
        deployment = Deployment(resolved, Artifact(draft), dataset, job.device, unseen)
        deployment.save_calibration()
        if pictures:
            draw(deployment, dataset.split("train"))
    return Artifact(target)


def train_parts(resolved: ResolvedDefense, dataset: Dataset, job: TrainJob, only: Sequence[str] = ()) -> Folders:
    """Train the missing parts of a defense; return the folder of each part.

    Args:
        resolved: the defense.
        dataset: its training images.
        job: seed, device, progress.
        only: these parts and those that they need; all by default.

    Raises:
        BadParameter: the defense has no such part, or it needs no training.
        DataError: the data set has no training images.
    """
    card = dataset.card()
    check_parts(card, resolved)
    keys = resolved.training_keys(card)
    if unknown := sorted(set(only) - set(keys)):
        raise BadParameter(f"{resolved.entry.spec.name!r} has no {unknown[0]!r} to train; valid: {', '.join(keys)}")
    wanted = set(only or keys)
    for name, part in resolved.learned().items():
        wanted |= set(part.needs) if name in wanted else set()
    folders: Folders = {}
    for name, key in keys.items():
        if name in wanted:
            folders[name] = _trained(resolved, dataset, job, folders, name, key)
    return folders


def _trained(resolved: ResolvedDefense, dataset: Dataset, job: TrainJob, folders: Folders, name: str, key: str) -> Path:
    """The folder of one part, trained now if missing; ``folders``: the parts trained before it."""
    folder = part_folder(name, key, job.seed)
    if is_trained(folder) or _adopt(resolved, dataset, name, key, job.seed, folder):
        return folder
    split = dataset.split("train")
    if len(split) == 0 and (name != "classifier" or resolved.strategy.trains):
        raise DataError(f"data set {dataset.card().name!r} has no training images")
    shared = resolved.shared_key(name, dataset.card())
    # The states that a strategy trains are shared with other parts; those that each client fits are not.
    learned = None if shared in (None, key) else _trained(resolved, dataset, job, folders, name, shared)
    with locked(folder, wait=f"part {name!r} of {resolved.entry.spec.name!r}"):
        if not is_trained(folder):  # by another process, for which this one has waited
            train_part(folder, PartJob(name, resolved, dataset.card(), split, job, folders, learned, fit=shared != key))
    return folder


def _adopt(resolved: ResolvedDefense, dataset: Dataset, name: str, key: str, seed: int, folder: Path) -> bool:
    """Copy the part from weights that contain it, such as those shipped with the defense."""
    artifact = with_part(resolved, dataset.card(), name, key, seed)
    if artifact is None:
        return False
    with new_folder(folder) as draft:
        for file in artifact.files(name):
            copied = draft / file
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.folder / file, copied)
        write_text(draft / FACTS, json.dumps({**artifact.manifest["parts"][name], "files": digests(draft)}))
    return True
