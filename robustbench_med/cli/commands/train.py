"""``rbmed train``: train every part of a defense."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.commands.completion import component
from robustbench_med.cli.commands.plugins import PluginFiles, registry
from robustbench_med.cli.console import plain
from robustbench_med.cli.progress.bars import RichProgress


def train(
    defense: Annotated[
        str, typer.Argument(autocompletion=component("defense"), help="Defense to train: NAME or NAME:key=value,...")
    ] = "medfedpure",
    dataset: Annotated[
        str, typer.Option(autocompletion=component("dataset"), help="Data set: NAME or NAME:key=value,...")
    ] = "brainsim",
    model: Annotated[
        str | None,
        typer.Option(autocompletion=component("model"), help="Classifier architecture in place of the recipe's own."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(autocompletion=component("strategy"), help="Training strategy in place of the recipe's own."),
    ] = None,
    adversarial: Annotated[
        str | None, typer.Option(help="Adversarial training in the strategy, such as pgd:steps=5.")
    ] = None,
    malicious: Annotated[
        str | None, typer.Option(help="Malicious clients in the strategy, such as scaling:clients=1.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="What drives the strategy's federation.")] = None,
    partition: Annotated[
        str | None, typer.Option(help="How patients are dealt to clients, such as iid:clients=10. [by site]")
    ] = None,
    unseen_site: Annotated[list[str] | None, typer.Option(help="Site kept out of training. May be repeated.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Train just this part: classifier, detector or purifier. May be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Makes the training repeatable.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    data_root: Annotated[Path | None, typer.Option(help="Folder of your images (or RBMED_DATA).")] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="Folder for the weights; by default where `rbmed run` finds them.")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Train classifier, detector and purifier of a defense; an interrupted training resumes when called again."""
    from robustbench_med.api import train_defense

    artifact = train_defense(
        defense, dataset, model=model, strategy=strategy, adversarial=adversarial, malicious=malicious, engine=engine,
        partition=partition, unseen_site=unseen_site or (), only=only or (), seed=seed, device=device, out=target,
        data_root=data_root, registry=registry(plugin), progress=RichProgress(),
    )  # fmt: skip
    if artifact is None:
        plain(f"trained {', '.join(only or ())} of {defense} on {dataset}")
        return
    plain(f"trained {defense} on {dataset}: {artifact.folder}")
    for part, facts in artifact.manifest["parts"].items():
        plain(f"  {part:<12} {facts['seconds']:8.1f} s")
    pictures = sorted(file.name for file in (artifact.folder / "pictures").glob("*.png"))
    plain(f"  pictures/    {', '.join(pictures)}")
