"""Trains one part of a defense over the sites of a data set: by a strategy, or at each client."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from robustbench_med.defenses.artifact import digests, personal, save_state
from robustbench_med.defenses.building import PartBuilder, PartFolders, build_for
from robustbench_med.defenses.resolved import ResolvedDefense, fits, learns
from robustbench_med.errors import StoreWarning, UsageError
from robustbench_med.files.atomic import new_folder, write_text
from robustbench_med.files.paths import home
from robustbench_med.files.provenance import versions
from robustbench_med.interfaces.dataset import DataCard, Split
from robustbench_med.interfaces.defense import Part, Purifier, System
from robustbench_med.interfaces.training import Classifier, Learner, Strategy, TrainJob
from robustbench_med.plugins.calls import named, naming, process_kept
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.training.federated import check_federated

#: Folders of trained parts, by name.
Folders = dict[str, Path]
FACTS = "training.json"


@dataclass(frozen=True)
class PartJob:
    """The training of one part.

    Attributes:
        name: ``classifier``, or one of `ResolvedDefense.learned`.
        resolved: the defense.
        card: of the data set.
        split: the training images of all clients.
        job: seed, device, progress.
        before: folders of the parts that are trained already.
        learned: folder with the states that a strategy has trained; None: train them now.
        fit: let each client fit the part, if it overrides `fit`.
    """

    name: str
    resolved: ResolvedDefense
    card: DataCard
    split: Split
    job: TrainJob
    before: Folders
    learned: Path | None = None
    fit: bool = True


def part_folder(name: str, key: str, seed: int) -> Path:
    """Folder of a trained part."""
    return home() / "parts" / f"{name}-{key}-{seed}"


def is_trained(folder: Path) -> bool:
    """Whether the trained part exists and is undamaged; an interrupted training leaves no such folder."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["files"] == digests(folder):
            return True
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        pass
    message = f"{folder} is damaged: its files do not match its {FACTS}; the part is trained again"
    warnings.warn(message, StoreWarning, stacklevel=2)
    return False


def train_part(folder: Path, task: PartJob) -> None:
    """Train one part into its folder, with checkpoints in a temporary folder."""
    scratch = folder.with_name(f".{folder.name}.training")
    start = time.perf_counter()
    with new_folder(folder) as draft:
        work = _train_classifier if task.name == "classifier" else _train_module
        metrics = work(replace(task, job=replace(task.job, checkpoints=scratch)), draft)
        facts = {
            "seconds": round(time.perf_counter() - start, 1),
            "metrics": metrics,
            "device": str(task.job.device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "files": digests(draft),
        }
        write_text(draft / FACTS, json.dumps(facts))
    shutil.rmtree(scratch, ignore_errors=True)


def _federate(
    task: PartJob, strategy: Strategy, build: Callable[[], Learner], job: TrainJob, draft: Path
) -> list[dict[str, Any]]:
    """Train over the clients and write the states; return the history."""
    # Initial weights come from the global generator, which is restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        with process_kept():
            federated = strategy.train(build, task.split.by_site(), job)
    check_federated(federated, named("strategy", strategy), set(task.split.sites))
    save_state(draft / f"{task.name}.safetensors", federated.shared, federated.exact)
    for client, state in federated.personal.items():
        if state:
            save_state(draft / f"{personal(task.name, client)}.safetensors", state, federated.exact)
    return federated.history


def _train_classifier(task: PartJob, draft: Path) -> Any:
    card = task.card

    def build() -> Classifier:
        return build_for(task.resolved.model, card)

    return _federate(task, task.resolved.strategy, build, task.job, draft)


def _train_module(task: PartJob, draft: Path) -> Any:
    """Train a detector or purifier over the clients, then let each client fit it."""
    name, job = task.name, task.job
    part = task.resolved.learned()[name]
    made = PartBuilder(task.resolved, task.card, PartFolders({**task.before, name: draft}), job.device)
    metrics: dict[str, Any] = {}
    if task.learned is not None:
        copy_states(task.learned, draft)
        metrics |= json.loads((task.learned / FACTS).read_text(encoding="utf-8"))["metrics"]
    elif learns(part):
        system = _needed(part, made, None)

        def build() -> Learner:
            return made.fresh(part).to(job.device).learner(system)

        strategy = task.resolved.training[name]
        metrics["rounds"] = _federate(task, strategy, build, replace(job, origin=_origin(task, part, strategy)), draft)
    if task.fit and fits(part):
        sites = task.split.by_site()
        with job.progress.task(f"fitting {part.spec_name}", len(sites)) as bar:
            for client, own in sites.items():
                fitted, mine = made.unfitted(name, client), personal(name, client)
                learned = made.learned(name, client)
                system = _needed(part, made, client)
                with process_kept(), naming(name, fitted):
                    metrics.setdefault("clients", {})[client] = fitted.fit(own, system, job)
                # The state that clients share is stored once.
                kept = made.states.state(mine) if made.states.has(mine) else {}
                new = {key: value for key, value in fitted.state_dict().items() if key not in learned}
                save_state(draft / f"{mine}.safetensors", kept | new)
                bar.advance()
    return metrics


def facts_of(folder: Path) -> dict[str, Any]:
    """Facts on the training of a part, for the manifest, without digests: the manifest has its own."""
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    del facts["files"]
    return facts


def copy_states(source: Path, target: Path) -> None:
    """Copy the states of a part into another folder."""
    for file in source.rglob("*.safetensors"):
        copied = target / file.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copied)


def _origin(task: PartJob, part: Part, strategy: Strategy) -> dict[str, str]:
    """`TrainJob.origin` for a part; empty for a part with ``needs``, which other processes could not build."""
    origin = task.job.origin
    if part.needs or not origin:
        return {}
    made = {task.name.partition("-")[0]: part, "strategy": strategy}
    texts = {kind: format_ref(PartRef(each.spec_name, all_params(each.params))) for kind, each in made.items()}
    return {key: text for key, text in origin.items() if key not in ("model", "strategy")} | texts


class NoClassifier(Classifier):
    """Placeholder for the classifier of a part that does not declare it in ``needs``."""

    def forward(self, x: Tensor) -> Tensor:
        """Raise an error.

        Raises:
            UsageError: always.
        """
        raise UsageError("a part that uses the classifier in training must declare it: needs = ('classifier',)")

    embed = forward


def _needed(part: Part, made: PartBuilder, client: str | None) -> System:
    """The other parts that the part declares in ``needs``."""
    purifier = made.part("purifier", client) if "purifier" in part.needs else None
    classifier = made.classifier(client) if "classifier" in part.needs else NoClassifier()
    return System(classifier, cast("Purifier | None", purifier))
