"""``rbmed run``: attack defenses and show honest rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.plugins import PluginFiles, registry
from robustbench_med.cli.progress import RichProgress
from robustbench_med.cli.style import err, out, plain


def run(
    config: Annotated[Path | None, typer.Argument(help="TOML file with the same keys as the options.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Data set: NAME or NAME:key=value,... [brainsim]")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Classifier in place of the recipe's own.")] = None,
    strategy: Annotated[list[str] | None, typer.Option(help="Training strategy in place of the recipe's own.")] = None,
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
    unseen_site: Annotated[
        list[str] | None, typer.Option(help="Site kept out of training, and evaluated with the shared model.")
    ] = None,
    train: Annotated[bool | None, typer.Option("--train", help="First train the defenses without weights.")] = None,
    train_seed: Annotated[list[int] | None, typer.Option(help="Seed of the training. [newest weights]")] = None,
    defense: Annotated[list[str] | None, typer.Option(help="Defense. [medfedpure]")] = None,
    baseline: Annotated[str | None, typer.Option(help="Shown beside; '' for none. [undefended]")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="Attack: NAME or NAME:key=value,... [apgd]")] = None,
    norm: Annotated[str | None, typer.Option(help="linf, l2 or l1, in pixel space. [linf]")] = None,
    eps: Annotated[list[str] | None, typer.Option(help="Radius; fractions accepted. [4/255]")] = None,
    access: Annotated[
        list[str] | None,
        typer.Option(
            help="Rung of the access ladder: oblivious, transfer, bpda, full, gate, query, or all: ladder:quick, "
            "ladder:standard, ladder:full. [oblivious, and a quick ladder on a few images]"
        ),
    ] = None,
    goal: Annotated[str | None, typer.Option(help="untargeted, hide-lesion or fake-lesion. [untargeted]")] = None,
    surrogate: Annotated[str | None, typer.Option(help="Defense attacked by transfer. [undefended]")] = None,
    evasion: Annotated[str | None, typer.Option(help="On gate: orthogonal or joint:WEIGHT. [orthogonal]")] = None,
    stand_in: Annotated[str | None, typer.Option(help="Backward of bpda: identity or blur. [identity]")] = None,
    max_gradients: Annotated[int | None, typer.Option(help="Gradients an attack may spend on an image.")] = None,
    max_queries: Annotated[int | None, typer.Option(help="Forward passes an attack may spend on an image.")] = None,
    diagnostics: Annotated[str | None, typer.Option(help="off, cheap or full. [cheap]")] = None,
    client: Annotated[list[str] | None, typer.Option(help="Clients to evaluate. [all, or the unseen]")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many test images. [all]")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed. [0]")] = None,
    draws: Annotated[int | None, typer.Option(help="Fresh noise draws each image is scored on. [3]")] = None,
    eot: Annotated[int | None, typer.Option(help="Noise draws averaged in each gradient. [4]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:i. [auto]")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Images per chunk: auto or a number. [auto]")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of trained weights of the defense.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of your images (or RBMED_DATA).")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="Folder for records and samples. [results]")] = None,
    executor: Annotated[
        str | None, typer.Option(help="Who runs the cells: local, local:process=true, ray:workers=2. [local]")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which a cell is stopped. [none]")] = None,
    again: Annotated[bool | None, typer.Option("--again", help="Measure cells again that have a record.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of attacks: float32, bf16 or fp16. [float32]")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="Let torch compile what attacks work on.")] = None,
    channels_last: Annotated[
        bool | None, typer.Option("--channels-last/--channels-first", help="Memory layout of it. [channels-last]")
    ] = None,
    prefetch: Annotated[bool | None, typer.Option("--prefetch", help="Copy images to the GPU ahead.")] = None,
    share: Annotated[
        bool | None, typer.Option("--share/--no-share", help="Use what other cells have made already. [share]")
    ] = None,
    report: Annotated[str | None, typer.Option(help="Print the records as this report: markdown, csv, ...")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON lines.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Attack defenses and print a row for each; options that may be repeated make a grid."""
    options = {
        "dataset": dataset, "partition": partition, "unseen_site": unseen_site, "model": model, "strategy": strategy,
        "adversarial": adversarial, "malicious": malicious, "engine": engine, "train": train,
        "train_seed": train_seed, "defense": defense, "baseline": baseline, "attack": attack, "norm": norm,
        "eps": eps, "access": access, "client": client, "limit": limit, "seed": seed, "draws": draws, "eot": eot,
        "device": device, "batch_size": batch_size, "weights": weights, "data_root": data_root, "out": target,
        "goal": goal, "surrogate": surrogate, "evasion": evasion, "stand_in": stand_in,
        "max_gradients": max_gradients, "max_queries": max_queries, "diagnostics": diagnostics,
        "executor": executor, "time_limit": time_limit, "again": again, "precision": precision, "compile": compile_,
        "channels_last": channels_last, "prefetch": prefetch, "share": share,
    }  # fmt: skip

    from robustbench_med.cli.page import show
    from robustbench_med.cli.results import name_of
    from robustbench_med.components import create
    from robustbench_med.config import build
    from robustbench_med.runner import Runner
    from robustbench_med.table import to_frame

    known = registry(plugin)
    settings = build(options, config)
    form = create(known, "report", report) if report else None
    records = []
    for record in Runner(settings, known, RichProgress()).run():
        records.append(record)
        if as_json:
            print(json.dumps(record.model_dump(mode="json"), allow_nan=False), flush=True)
    if form is not None:
        plain(form.render(to_frame(records)))
    elif not as_json:
        show(records, settings.out / "samples")
        out.print(f"[dim]records: {settings.out / 'records.jsonl'}   per image: {settings.out / 'samples'}[/]")
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        err.print(f"failed: {name_of(record)}: {record.reason}", style="red", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)
