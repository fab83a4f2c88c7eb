"""The target model `bpda` with 16 noise draws beside a plain loop over draws: same images, noise and gradient.

The plain loop is what one writes by hand: per draw, the pipeline's treatment without a graph, then forward and backward
through its classifier; gradients are averaged. Images are those of one client after 10 PGD steps on the classifier,
so that a usual share of them is flagged.

python benchmarks/eot.py [--runs 5] [--images 64] [--draws 16] [--defense medfedpure ...] [--device auto]
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from adversarial import EPS, pgd
from bench import machine, seconds, share_busy
from rich.console import Console
from rich.table import Table
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.attacks.accelerate import accelerated_pipeline
from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import TargetSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.runtime.batching import chunk_size, find_device


def loop(pipeline: Pipeline, x: Tensor, y: Tensor, noise: rbmed.Stream, draws: int) -> Tensor:
    """Gradient of the mean cross-entropy over the draws, one draw after the other."""
    every, gradient = noise.repeat(draws), torch.zeros_like(x)
    for draw in range(draws):
        with torch.no_grad():
            found = pipeline.treat(x, every[draw::draws])
            treated = x.index_copy(0, found.rows, found.copies[:, 0])
        treated.requires_grad_()
        loss = F.cross_entropy(pipeline.classifier(treated), y, reduction="sum")
        gradient += torch.autograd.grad(loss, treated)[0] / draws
    return gradient


def ours(pipeline: Pipeline, x: Tensor, y: Tensor, noise: rbmed.Stream, draws: int, chunk: int) -> Tensor:
    """The same gradient from one call of the target model."""
    counter = QueryCounter(x, y, rbmed.ThreatModel("linf", EPS, "bpda"), rbmed.Budget())
    settings = TargetSettings(pipeline, counter, eot=draws, chunk=chunk)
    images = x.clone().requires_grad_()
    each = target_for(settings, "bpda", noise).each(images)
    losses = F.cross_entropy(each.flatten(0, 1), y.repeat_interleave(draws), reduction="sum") / draws
    return torch.autograd.grad(losses, images)[0]


def compare(name: str, args: argparse.Namespace, device: torch.device) -> list[str]:
    """The table's row of one defense."""
    deployment = rbmed.load_defense(name, device=str(device))
    client = deployment.artifact.clients[0]
    pipeline = deployment.pipeline(client)
    split = deployment.dataset.split("test").by_site()[client]
    x, y = split.images[: args.images].to(device), split.labels[: args.images].to(device)
    x = pgd(pipeline.classifier, x, y, EPS, 10, torch.Generator().manual_seed(0))
    # The target model's first pass draws from the first moment of the stream.
    noise = rbmed.Stream.named("benchmark", 0, torch.arange(len(x), device=device)).moment(0)
    with torch.no_grad():
        flagged = pipeline.treat(x, noise).flagged.float().mean()
    attackers_copy = accelerated_pipeline(pipeline)  # made once per cell
    works = [
        lambda: loop(pipeline, x, y, noise, args.draws),
        lambda: ours(attackers_copy, x, y, noise, args.draws, chunk_size("auto", device)),
    ]
    (plain, expected), (fast, found) = (seconds(work, args.runs, device) for work in works)
    row = [name, f"{flagged:.0%}", f"{len(x) / plain:.1f}", f"{len(x) / fast:.1f}", f"{plain / fast:.2f} x"]
    row.append(f"{float((found - expected).abs().max() / expected.abs().max()):.1e}")
    if device.type == "cuda":
        row.append(" / ".join(f"{share_busy(work):.0%}" for work in works))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--defense", nargs="+", default=["medfedpure", "medfedpure:score=reconstruction"])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device, console = find_device(args.device), Console(width=120)
    console.print(f"{machine(device)}; {args.images} images, {args.draws} draws, median of {args.runs}")
    table = Table("defense", "flagged", "loop images/s", "target model images/s", "ratio", "largest difference")
    if device.type == "cuda":
        table.add_column("GPU busy, loop / target model")
    for name in args.defense:
        table.add_row(*compare(name, args, device))
    console.print(table)


if __name__ == "__main__":
    main()
