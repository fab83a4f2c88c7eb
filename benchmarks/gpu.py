"""One GPU in at most ten minutes: speed, use, memory, agreement with the CPU, and other libraries beside it.

On a machine without a GPU, ``--device cpu`` measures the same on the CPU, and ``--device pretend`` runs everything on
the pretend device (`robustbench_med.testing.PretendDevice`). That shows that no tensor is left on the CPU; its times
mean nothing. Operations and waits of a pass are always counted there.

python benchmarks/gpu.py [--device auto] [--images 256] [--steps 20] [--minutes 10]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from attacks import Job, sides
from bench import machine, seconds, share_busy
from rich.console import Console
from rich.table import Table
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.attacks.accelerate import accelerated_pipeline
from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import RungRef, resolve_rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.attacks.target_model import TargetSettings
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.runtime.batching import find_device
from robustbench_med.testing import PretendDevice

EPS = 4 / 255
#: What is measured: a name, the access and the attack.
CELLS = (
    ("undefended", "oblivious", "apgd:steps={steps}"),
    ("undefended", "query", "square:queries={steps}"),
    ("medfedpure", "gate", "apgd:steps={steps}"),
    ("medfedpure", "bpda", "pgd:steps={steps}"),
    ("medfedpure:ablation=no-detector", "full", "pgd:steps={steps}"),
)


@dataclass(frozen=True)
class Bench:
    """Where, how much and how long.

    Attributes:
        device: where the work is done.
        kind: cpu, cuda or pretend.
        images, steps: of each attack.
        until: monotonic time after which nothing new begins.
        console: prints.
    """

    device: torch.device
    kind: str
    images: int
    steps: int
    until: float
    console: Console

    @property
    def over(self) -> bool:
        """The time is up."""
        return time.monotonic() > self.until


def deployed(name: str, device: torch.device) -> tuple[Pipeline, rbmed.Split]:
    """The pipeline of the first client, and all test images."""
    deployment = rbmed.load_defense(name, device="cpu")
    pipeline = deployment.pipeline(deployment.artifact.clients[0]).to(device)
    test: rbmed.Split = deployment.dataset.split("test")
    return pipeline, test


def settings(bench: Bench, access: str, attack: str, device: torch.device) -> EvaluationSettings:
    """One attack from one rung."""
    rung = resolve_rung(Registry(), RungRef(access, parse(attack.format(steps=bench.steps))))
    return EvaluationSettings(
        threat=rbmed.ThreatModel("linf", EPS, access),
        rungs=[rung],
        num_classes=2,
        lesion_class=None,
        device=device,
        batch=min(bench.images, 4096 if device.type == "cuda" else 128),
    )


def cells(bench: Bench) -> Iterator[tuple[str, Pipeline, rbmed.Split, EvaluationSettings]]:
    """Each cell that there is time for."""
    for name, access, attack in CELLS:
        if bench.over:
            bench.console.print(f"not measured, the time is up: {name} {access}")
            continue
        pipeline, test = deployed(name, bench.device)
        split = test.select(rows_to_evaluate(test, tuple(sorted(set(test.sites))), bench.images))
        title = f"{name} {access} {attack.partition(':')[0]}"
        yield title, pipeline, split, settings(bench, access, attack, bench.device)


def throughput(bench: Bench) -> None:
    """Images/s, share of the time that the device computes, and peak memory."""
    table = Table("cell", "s", "images/s", "busy", "peak GiB", title=f"{bench.images} images, {bench.steps} steps")
    for name, pipeline, split, how in cells(bench):
        index = torch.arange(len(split))

        def work(pipeline: Pipeline = pipeline, split: rbmed.Split = split, how: EvaluationSettings = how) -> Any:
            return measure(pipeline, split, torch.arange(len(split)), how)

        if bench.kind == "cuda":
            work()  # kernels are chosen in the first run
            torch.cuda.reset_peak_memory_stats(bench.device)
        taken, _ = seconds(work, 1, bench.device)
        busy = f"{share_busy(work):.0%}" if bench.kind == "cuda" and not bench.over else ""
        memory = f"{torch.cuda.max_memory_allocated(bench.device) / 2**30:.2f}" if bench.kind == "cuda" else ""
        table.add_row(name, f"{taken:.2f}", f"{len(index) / taken:.1f}", busy, memory)
    bench.console.print(table)


def passes(console: Console) -> None:
    """Operations and waits of one forward and backward pass, counted on the pretend device."""
    table = Table("rung", "operations", "waits", title="one pass of 16 images: each operation is a kernel or more")
    for name, access, _ in CELLS:
        pipeline, test = deployed(name, torch.device("cpu"))
        with PretendDevice() as counter:
            operations, waits = one_pass(pipeline, test, access, counter)
        table.add_row(f"{name} {access}", str(operations), str(waits))
    console.print(table)


def one_pass(pipeline: Pipeline, test: rbmed.Split, access: str, device: PretendDevice) -> tuple[int, int]:
    """Operations and waits."""
    fast = accelerated_pipeline(pipeline).to(device.device)
    x, y = test.images[:16].to(device.device), test.labels[:16].to(device.device)
    plain = EvaluationSettings(rbmed.ThreatModel("linf", EPS), [], 2, None, device.device)
    noise = rbmed.Stream.named("benchmark", 0, torch.arange(16, device=device.device))
    target = target_for(TargetSettings(fast, plain.counter(x, y)), access, noise)
    start = x.clone().requires_grad_(access != "query")
    device.reset()
    logits = target(start)
    if start.requires_grad:
        torch.autograd.grad(logits.sum(), start)
    return device.launches.total(), device.syncs.total()


def agreement(bench: Bench) -> None:
    """The same cells on the CPU and on the device: answers that differ, and how far scores lie apart."""
    small = replace(bench, images=min(bench.images, 64), steps=min(bench.steps, 10))
    table = Table("cell", "images", "other answers, clean", "attacked", "largest difference of scores")
    for name, pipeline, split, how in cells(small):
        index = torch.arange(len(split))
        there = measure(pipeline, split, index, how)
        here = measure(pipeline.to("cpu"), split, index, replace(how, device=torch.device("cpu")))
        others = [int((a.predictions != b.predictions).any(0).sum()) for a, b in _both(here, there)]
        apart = max(float((a.scores - b.scores).abs().nan_to_num(0).max()) for a, b in _both(here, there))
        table.add_row(name, str(len(split)), *map(str, others), f"{apart:.2g}")
    bench.console.print(table)


def _both(here: Any, there: Any) -> list[tuple[Any, Any]]:
    return [(here.clean, there.clean), (here.attacked, there.attacked)]


def peers(bench: Bench) -> None:
    """Auto-PGD beside other libraries, on the undefended classifier."""
    pipeline, test = deployed("undefended", bench.device)
    split = test.select(rows_to_evaluate(test, tuple(sorted(set(test.sites))), bench.images))
    table = Table("attack", "s", "ours faster by", "robust", title=f"Auto-PGD, {bench.steps} steps")
    first = None
    job = Job(pipeline.classifier, split, bench.steps, min(bench.images, 512), bench.device)
    for name, (_, attack) in sides(job).items():
        if bench.over:
            bench.console.print(f"not measured, the time is up: {name}")
            continue
        taken, safe = _timed(attack, bench)
        first = first or taken
        table.add_row(name, f"{taken:.2f}", f"{taken / first:.2f} x", f"{safe.float().mean():.4f}")
    bench.console.print(table)


def _timed(attack: Callable[[], Tensor], bench: Bench) -> tuple[float, Tensor]:
    if bench.kind == "cuda":
        attack()
    return seconds(attack, 1, bench.device)


def main() -> None:
    """Run what fits into the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:i or pretend")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    console, until = Console(width=120), time.monotonic() + 60 * args.minutes
    pretend = args.device == "pretend"
    with PretendDevice() if pretend else nullcontext():
        device = PretendDevice.device if pretend else find_device(args.device)
        kind = "pretend" if pretend else device.type
        console.print(f"{machine(device)}; {'times mean nothing here; ' * pretend}at most {args.minutes:g} minutes")
        bench = Bench(device, kind, args.images, args.steps, until, console)
        for part in (throughput, agreement, peers):
            part(bench)
    passes(console)  # outside of the pretend device, which it opens itself


if __name__ == "__main__":
    main()
