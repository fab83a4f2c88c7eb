"""What can be asked of a run on the command line: options that several commands share, as a `RunConfig` takes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from robustbench_med.cli.commands.completion import component

Config = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE|NAME]", help="TOML file with the same keys as the options, or a name in configs/."),
]


def options(
    dataset: Annotated[
        list[str] | None,
        typer.Option(autocompletion=component("dataset"), help="Data set: NAME or NAME:key=value,... [brainsim]"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(autocompletion=component("model"), help="Classifier in place of the recipe's own."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
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
    unseen_site: Annotated[
        list[str] | None, typer.Option(help="Site kept out of training, and evaluated with the shared model.")
    ] = None,
    train: Annotated[bool | None, typer.Option("--train", help="First train the defenses without weights.")] = None,
    train_seed: Annotated[list[int] | None, typer.Option(help="Seed of the training. [newest weights]")] = None,
    defense: Annotated[
        list[str] | None, typer.Option(autocompletion=component("defense"), help="Defense. [medfedpure]")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(autocompletion=component("defense"), help="Shown beside; '' for none. [undefended]")
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(autocompletion=component("attack"), help="Attack: NAME or NAME:key=value,... [apgd]"),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf, l2 or l1, in pixel space. [linf]")] = None,
    eps: Annotated[list[str] | None, typer.Option(help="Radius; fractions accepted. [4/255]")] = None,
    threat: Annotated[
        list[str] | None,
        typer.Option(help="In place of --norm, --eps and --goal: linf:4/255, l2:eps=0.5,goal=hide-lesion."),
    ] = None,
    access: Annotated[
        list[str] | None,
        typer.Option(
            help="Rung of the access ladder: oblivious, transfer, bpda, full, gate, query, or all: ladder:quick, "
            "ladder:standard, ladder:full. [oblivious, and a quick ladder on a few images]"
        ),
    ] = None,
    goal: Annotated[str | None, typer.Option(help="untargeted, hide-lesion or fake-lesion. [untargeted]")] = None,
    surrogate: Annotated[
        str | None, typer.Option(autocompletion=component("defense"), help="Defense attacked by transfer. [undefended]")
    ] = None,
    evasion: Annotated[str | None, typer.Option(help="On gate: orthogonal or joint:WEIGHT. [orthogonal]")] = None,
    stand_in: Annotated[str | None, typer.Option(help="Backward of bpda: identity or blur. [identity]")] = None,
    max_gradients: Annotated[int | None, typer.Option(help="Gradients an attack may spend on an image.")] = None,
    max_queries: Annotated[int | None, typer.Option(help="Forward passes an attack may spend on an image.")] = None,
    diagnostics: Annotated[str | None, typer.Option(help="off, cheap or full. [cheap]")] = None,
    client: Annotated[list[str] | None, typer.Option(help="Clients to evaluate. [all, or the unseen]")] = None,
    each_client: Annotated[
        bool | None, typer.Option("--each-client", help="A cell for each client, in place of one over all.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many test images. [all]")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed. [0]")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only cells that fit: key=text,... such as attack=apgd*,client=hospital-?")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No cell that fits: key=text,...")] = None,
    draws: Annotated[int | None, typer.Option(help="Fresh noise draws each image is scored on. [3]")] = None,
    eot: Annotated[int | None, typer.Option(help="Noise draws averaged in each gradient. [4]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:i. [auto]")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Images per chunk: auto or a number. [auto]")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of trained weights, or a model's file of them.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of your images (or RBMED_DATA).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for records and samples. [results]")] = None,
    executor: Annotated[
        str | None, typer.Option(help="Who runs the cells: local, local:process=true, ray:workers=2. [local]")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which a cell is stopped. [none]")] = None,
    again: Annotated[bool | None, typer.Option("--again", help="Measure cells again that have a record.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of attacks: float32, bf16 or fp16. [float32]")] = None,
    compile: Annotated[bool | None, typer.Option("--compile", help="Let torch compile what attacks work on.")] = None,
    channels_last: Annotated[
        bool | None, typer.Option("--channels-last/--channels-first", help="Memory layout of it. [channels-last]")
    ] = None,
    prefetch: Annotated[bool | None, typer.Option("--prefetch", help="Copy images to the GPU ahead.")] = None,
    share: Annotated[
        bool | None, typer.Option("--share/--no-share", help="Use what other cells have made already. [share]")
    ] = None,
) -> dict[str, Any]:
    """The options by the keys of `robustbench_med.grid.config.RunConfig`; None where one was not given."""
    return dict(locals())  # nothing but the parameters


def asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all of `options` in place of its parameter ``asked``, which gets them as one dict."""
    shared, own = inspect.signature(options).parameters, inspect.signature(command).parameters
    hints = get_type_hints(options, include_extras=True) | get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def asking(**given: Any) -> Any:
        asked = options(**{name: given.pop(name) for name in shared})
        return command(asked=asked, **given)

    # Where the shared options stand is where the command has its parameter.
    names = [name for each in own for name in (shared if each == "asked" else (each,))]
    every = {**own, **shared}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [every[name].replace(kind=keyword, annotation=hints[name]) for name in names]
    asking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    asking.__annotations__ = {name: hints[name] for name in names}
    return asking
