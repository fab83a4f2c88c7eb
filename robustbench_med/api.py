"""The Python API, as strong as the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_med.batching import find_device
from robustbench_med.blueprint import draw
from robustbench_med.components import parse
from robustbench_med.config import build
from robustbench_med.deployment import Deployment, artifact_folder, find_artifact
from robustbench_med.errors import BadParameter
from robustbench_med.interfaces import Dataset, TrainJob
from robustbench_med.opening import open_dataset
from robustbench_med.registry import Registry
from robustbench_med.runner import Runner
from robustbench_med.training import train, train_parts

if TYPE_CHECKING:
    from robustbench_med.progress import Progress
    from robustbench_med.records import Record
    from robustbench_med.store import Artifact


def evaluate(
    *, registry: Registry | None = None, progress: Progress | None = None, config: Path | None = None, **options: Any
) -> list[Record]:
    """Attack defenses and return one record per cell; records and samples are also written to ``out``.

    ::

        records = robustbench_med.evaluate(defense="medfedpure", attack="apgd:steps=20", eps="4/255", limit=64)

    Args:
        registry: where plugins come from; by default everything installed.
        progress: opens progress bars; by default none are shown.
        config: a TOML file; ``options`` win over it.
        options: the long options of ``rbmed run`` (see `robustbench_med.config.RunConfig`).

    Raises:
        UsageError: anything that can be mended by asking differently; nothing has been written then.
    """
    return list(Runner(build(options, config), registry or Registry(), progress).run())


def load_dataset(
    name: str,
    *,
    data_root: Path | str | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open a data set: ``load_dataset("brainsim").split("test").images`` is float32 (N, C, H, W) in [0, 1].

    Args:
        name: ``name`` or ``name:key=value,...``.
        data_root: folder of the user's images, for data sets that need one.
        registry: where plugins come from.
        progress: opens progress bars.
    """
    return open_dataset(registry or Registry(), parse(name), data_root, progress)


def load_defense(
    name: str = "medfedpure",
    dataset: str | Dataset = "brainsim",
    *,
    device: str = "auto",
    weights: Path | str | None = None,
    data_root: Path | str | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> Deployment:
    """Load a trained defense; ``load_defense().pipeline("hospital-1")`` is that client's deployed system.

    Args:
        name: ``name`` or ``name:key=value,...``.
        dataset: the data set it was trained on, by name or opened.
        device: auto, cpu, cuda or cuda:i.
        weights: a folder written by ``rbmed train --out``; by default weights trained here, else shipped ones.
        data_root: folder of the user's images.
        registry: where plugins come from.
        progress: opens progress bars.

    Raises:
        WeightsError: there are no weights for this defense on this data set.
    """
    registry = registry or Registry()
    blueprint = draw(registry, parse(name))
    opened = open_dataset(registry, parse(dataset), data_root, progress) if isinstance(dataset, str) else dataset
    artifact = find_artifact(blueprint, opened.card(), None if weights is None else Path(weights))
    return Deployment(blueprint, artifact, opened, find_device(device))


def train_defense(
    name: str,
    dataset: str = "brainsim",
    *,
    model: str | None = None,
    strategy: str | None = None,
    only: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    out: Path | str | None = None,
    data_root: Path | str | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> Artifact | None:
    """Train every part of a defense; parts that are already trained are kept, an interrupted one resumes.

    Args:
        name: ``name`` or ``name:key=value,...``.
        dataset: data set, as ``name`` or ``name:key=value,...``.
        model: classifier architecture in place of the recipe's own.
        strategy: training strategy in place of the recipe's own.
        only: train just these parts (classifier, detector, purifier) for a later call to put together.
        seed: makes the training repeatable.
        device: auto, cpu, cuda or cuda:i.
        out: folder for the weights; by default where ``rbmed run`` finds them.
        data_root: folder of the user's images.
        registry: where plugins come from.
        progress: opens progress bars.

    Returns:
        The artifact; None with ``only``.
    """
    registry = registry or Registry()
    blueprint = draw(registry, parse(name), parse(model) if model else None, parse(strategy) if strategy else None)
    where = find_device(device)
    opened = open_dataset(registry, parse(dataset), data_root, progress)
    target = Path(out) if out is not None else artifact_folder(blueprint, opened.card())
    if target.exists() and not (target / "manifest.json").is_file() and (not target.is_dir() or any(target.iterdir())):
        raise BadParameter(f"--out {target} exists and holds no trained weights; name a new folder")
    job = TrainJob(seed=seed, device=where, progress=opened.progress)
    if only:
        train_parts(blueprint, opened, job, only)
        return None
    return train(blueprint, opened, job, target)
