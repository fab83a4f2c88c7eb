"""The Python API: what the command line does, as functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from robustbench_med.datasets import from_python
from robustbench_med.datasets.loading import open_dataset, with_partition
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.from_python import named
from robustbench_med.defenses.hub import local
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.weights import artifact_folder
from robustbench_med.errors import BadParameter
from robustbench_med.evaluation import notebook
from robustbench_med.evaluation.keywords import RunOptions, TrainingOptions
from robustbench_med.evaluation.results import Results
from robustbench_med.grid.config import OPTIONAL, build
from robustbench_med.grid.options import reference
from robustbench_med.interfaces.dataset import Dataset
from robustbench_med.plugins.components import create, current_registry
from robustbench_med.plugins.references import PartRef, format_ref, parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.runner.runner import Runner
from robustbench_med.runtime.batching import find_device
from robustbench_med.training.loader import Loader
from robustbench_med.training.train import train, train_parts

if TYPE_CHECKING:
    from robustbench_med.defenses.artifact import Artifact
    from robustbench_med.progress import Progress


@notebook.notices()
def evaluate(
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
    config: Path | None = None,
    **options: Unpack[RunOptions],
) -> Results:
    """Attack defenses and return a list of one record per cell; records and samples are also written to ``out``.

    Cells that have a record there are not measured again unless ``again=True``; interrupted ones resume.

    ::

        results = robustbench_med.evaluate(defense="medfedpure", attack="apgd:steps=20", eps="4/255", limit=64)
        results.to_frame()     # pandas
        results.plot("clients")

    Your own classifier on your own images: ``evaluate(model=net, dataset=(images, labels), attack="apgd")``.

    Args:
        registry: where plugins come from; by default everything installed.
        progress: opens progress bars; by default there are some in a notebook, none elsewhere.
        config: a TOML file; ``options`` win over it.
        options: the long options of ``rbmed run``, with underscores (`RunOptions`). A model may be a torch module, or a
            table such as ``{"name": net, "size": 224, "mean": [0.5], "std": [0.25]}``. It maps images
            (N, C, H, W) to logits (N, K). Data may be a pair of arrays, a torch `Dataset`, a `DataLoader`, or
            `own_data` of these; a module gets its images as they are, in [0, 1]. With a named data set they are first
            normalised, by default with mean 0.5 and std 0.25.

    Raises:
        UsageError: a name, a value or a combination of them is not valid; nothing has been written then.
    """
    data = from_python.named(options.get("dataset"))
    given: dict[str, Any] = {
        **{name: "" if value is None and name in OPTIONAL else value for name, value in options.items()},
        "model": named(options.get("model"), plain=from_python.is_own(data)),
        "dataset": data,
    }
    shown = progress if progress is not None else notebook.progress()
    return Results(Runner(build(given, config), registry or Registry(), shown).run())


@notebook.notices()
def load_dataset(
    name: str,
    *,
    partition: str | None = None,
    unseen_site: str | Sequence[str] = (),
    data_root: Path | str | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open a data set: ``load_dataset("brainsim").split("test").images`` is float32 (N, C, H, W) in [0, 1].

    Args:
        name: ``name`` or ``name:key=value,...``.
        partition: assigns patients to clients, such as ``dirichlet:alpha=0.4,clients=10``; by default by site.
        unseen_site: sites that are kept out of training and calibration.
        data_root: folder of the user's images, for data sets that need one.
        registry: where plugins come from.
        progress: opens progress bars.
    """
    return open_dataset(
        registry or Registry(), parse(name), data_root, progress, partition=_ref(partition), unseen=_names(unseen_site)
    )


@notebook.notices()
def load_component(kind: str, ref: PartRef | str, *, registry: Registry | None = None) -> Any:
    """Build a component, untrained: ``load_component("model", "resnet:width=16")``.

    Args:
        kind: attack, model, strategy, ...
        ref: ``name`` or ``name:key=value,...``.
        registry: where plugins come from; by default that of the component that is being built, if any.

    Raises:
        UnknownName, AmbiguousName, BadParameter: the reference is wrong.
    """
    return create(registry or current_registry() or Registry(), kind, ref)


@notebook.notices()
def load_defense(
    name: str = "medfedpure",
    dataset: str | Dataset = "brainsim",
    *,
    train_seed: int | None = None,
    device: str = "auto",
    weights: Path | str | None = None,
    data_root: Path | str | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
    **training: Unpack[TrainingOptions],
) -> Deployment:
    """Load a trained defense; ``load_defense().pipeline("hospital-1")`` is that client's deployed system.

    Args:
        name: ``name`` or ``name:key=value,...``.
        dataset: the data set it was trained on, by name or opened.
        train_seed: the seed it was trained with; by default any, the newest weights first.
        device: auto, cpu, cuda or cuda:i.
        weights: a folder written by ``rbmed train --out``, or ``hf:OWNER/NAME@REVISION``; by default weights trained
            here, else shipped ones.
        data_root: folder of the user's images.
        registry: where plugins come from.
        progress: opens progress bars.
        training: how it was trained: model, strategy, adversarial, malicious, engine, partition, unseen_site.

    Raises:
        WeightsError: there are no weights for this defense on this data set.
    """
    root = None if data_root is None else Path(data_root)
    loader = Loader(registry or Registry(), find_device(device), root, progress)
    named = parse(dataset) if isinstance(dataset, str) else PartRef(dataset.card().name)
    ref = _trained_ref(name, named, train_seed, training)
    folder = None if weights is None else local(Path(weights))
    if isinstance(dataset, str):
        return loader.deployment(ref, folder)
    opened, resolved = with_partition(dataset, ref.partition, ref.unseen), loader.resolved(ref)
    artifact = loader.artifact(ref, resolved, opened, folder)
    return Deployment(resolved, artifact, opened, loader.device, ref.unseen)


@notebook.notices()
def train_defense(
    name: str,
    dataset: str = "brainsim",
    *,
    only: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    out: Path | str | None = None,
    data_root: Path | str | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
    **training: Unpack[TrainingOptions],
) -> Artifact | None:
    """Train every part of a defense; parts that are already trained are kept, an interrupted one resumes.

    Args:
        name: ``name`` or ``name:key=value,...``.
        dataset: data set, as ``name`` or ``name:key=value,...``.
        only: train just these parts (classifier, detector, purifier) for a later call to put together.
        seed: makes the training repeatable.
        device: auto, cpu, cuda or cuda:i.
        out: folder for the weights; by default where ``rbmed run`` finds them.
        data_root: folder of the user's images.
        registry: where plugins come from.
        progress: opens progress bars.
        training: model, strategy, adversarial, malicious, engine, partition, unseen_site.

    Returns:
        The artifact; None with ``only``.
    """
    root = None if data_root is None else Path(data_root)
    loader = Loader(registry or Registry(), find_device(device), root, progress)
    ref = _trained_ref(name, parse(dataset), seed, training)
    resolved, opened = loader.resolved(ref), loader.dataset(ref)
    target = Path(out) if out is not None else artifact_folder(resolved, opened.card(), seed)
    if target.exists() and not (target / "manifest.json").is_file() and (not target.is_dir() or any(target.iterdir())):
        raise BadParameter(f"--out {target} exists and holds no trained weights; name a new folder")
    job = loader.job(ref, resolved)
    if only:
        train_parts(resolved, opened, job, only)
        return None
    return train(resolved, opened, job, target, ref.unseen)


def _ref(text: str | None) -> PartRef | None:
    return parse(text) if text else None


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _trained_ref(name: str, dataset: PartRef, seed: int | None, training: TrainingOptions) -> TrainedRef:
    """The reference of a training; unknown keywords are refused.

    Raises:
        TypeError: a keyword is unknown.
    """
    if unknown := training.keys() - TrainingOptions.__annotations__.keys():
        raise TypeError(f"unexpected keyword {min(unknown)!r}; valid: {', '.join(TrainingOptions.__annotations__)}")
    # Options of the strategy are part of training keys: they are written as `rbmed run` writes them.
    texts = {key: training.get(key) for key in ("adversarial", "malicious", "engine")}
    return TrainedRef(
        parse(name),
        dataset,
        None if (model := named(training.get("model"))) is None else reference(model, "model"),
        _ref(training.get("strategy")),
        {key: format_ref(parse(text)) for key, text in texts.items() if isinstance(text, str) and text},
        _ref(training.get("partition")),
        _names(training.get("unseen_site", ())),
        seed,
    )
