"""What purification costs: flagged images in batches of our sampler beside the published way, and what the gate saves.

The published way purifies one image at a time with as many ancestral steps as its diffusion time (t = 50..150 of 1000,
100 in the mean). Both use the same trained U-Net, on the same attacked images, and the classifier then answers.
Then a clean stream through the whole pipeline beside the bare classifier plus detector: what the gate lets through
unpurified should cost nothing more.

python benchmarks/purification.py [--runs 3] [--images 64] [--published 2] [--defense medfedpure] [--device auto]
"""

from __future__ import annotations

import argparse

import torch
from adversarial import EPS, pgd
from bench import machine, seconds
from rich.console import Console
from rich.table import Table
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.interfaces.defense import Purifier
from robustbench_med.runtime.batching import find_device

#: How the paper purifies; see the parameters of the defense's own purifier for how we do.
# The gate plays no part here; one that asks the purifier would take hours to fix with it.
PUBLISHED = "detector=random,purifier=[ddpm:t_min=50,t_max=150]"


def one_by_one(purifier: Purifier, x: Tensor, strength: Tensor, noise: rbmed.Stream) -> Tensor:
    """Each image alone, as the authors' code does."""
    rows = [slice(at, at + 1) for at in range(len(x))]
    return torch.cat([purifier.purify(x[row], strength[row], noise[row]) for row in rows])


@torch.no_grad()
def purification(args: argparse.Namespace, device: torch.device) -> Table:
    """Seconds an image and what the classifier then answers right."""
    pipelines = {}
    for name, defense in (("ours", args.defense), ("published", f"{args.defense}:{PUBLISHED}")):
        deployment = rbmed.load_defense(defense, device=str(device))
        pipelines[name] = deployment.pipeline(deployment.artifact.clients[0])
    classifier = pipelines["ours"].classifier
    split = deployment.dataset.split("test").by_site()[deployment.artifact.clients[0]]
    x, y = split.images[: args.images].to(device), split.labels[: args.images].to(device)
    with torch.enable_grad():
        x = pgd(classifier, x, y, EPS, 20, torch.Generator().manual_seed(0))
    noise = rbmed.Stream.named("benchmark", 0, torch.arange(len(x), device=device))
    # Strengths spread evenly, so that diffusion times are those of the paper.
    strength = torch.linspace(0, 1, len(x), device=device)[torch.randperm(len(x), generator=torch.manual_seed(0))]
    ours, published = (pipelines[name].purifier for name in ("ours", "published"))
    assert ours is not None
    assert published is not None
    few = slice(0, args.published)
    # Results depend on no other image of a batch: the slow way is timed on a few, and answers as it does in a batch.
    works = {
        "published: ancestral, one at a time": (
            lambda: one_by_one(published, x[few], strength[few], noise[few]),
            1,
            args.published,
        ),
        "ancestral, in batches": (lambda: published.purify(x, strength, noise), 1, len(x)),
        f"ours: {args.defense}'s own": (lambda: ours.purify(x, strength, noise), args.runs, len(x)),
    }
    table = Table("purification", "images timed", "seconds an image", "ratio", f"right after it, % of {len(x)}")
    done = {name: (*seconds(work, runs, device), count) for name, (work, runs, count) in works.items()}
    alone, batched = (purified for _, purified, _ in list(done.values())[:2])
    torch.testing.assert_close(alone, batched[few], atol=1e-4, rtol=0)
    first = 0.0
    for name, (taken, purified, count) in done.items():
        each = taken / count
        first = first or each
        answers = classifier(batched if purified is alone else purified).argmax(1)
        right = (answers == y).float().mean()
        table.add_row(name, str(count), f"{each:.4f}", f"{first / each:.0f} x", f"{100 * right:.1f}")
    attacked = (classifier(x).argmax(1) == y).float().mean()
    table.add_row("none", str(len(x)), "", "", f"{100 * attacked:.1f}")
    return table


@torch.no_grad()
def clean_stream(name: str, runs: int, device: torch.device) -> list[str]:
    """The whole pipeline on clean images beside classifier plus detector."""
    deployment = rbmed.load_defense(name, device=str(device))
    client = deployment.artifact.clients[0]
    pipeline, x = deployment.pipeline(client), deployment.dataset.split("test").by_site()[client].images.to(device)
    noise = rbmed.Stream.named("benchmark", 0, torch.arange(len(x), device=device))
    bare, _ = seconds(lambda: (pipeline.score(x, noise), pipeline.classifier(x)), runs, device)
    whole, _ = seconds(lambda: pipeline(x, noise), runs, device)
    flagged = float(pipeline.treat(x, noise).flagged.float().mean())
    return [name, f"{flagged:.1%}", f"{bare:.2f}", f"{whole:.2f}", f"{whole / bare:.2f} x"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--published", type=int, default=2, help="images purified the published way, which is slow")
    parser.add_argument("--defense", default="medfedpure")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device, console = find_device(args.device), Console(width=120)
    console.print(f"{machine(device)}; {args.images} images of the first client after PGD-20 on its classifier")
    console.print(purification(args, device))
    table = Table("clean stream", "flagged", "classifier + detector, s", "pipeline, s", "ratio")
    for name in (args.defense, f"{args.defense}:score=reconstruction"):
        table.add_row(*clean_stream(name, args.runs, device))
    console.print(table)


if __name__ == "__main__":
    main()
