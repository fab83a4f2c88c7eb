"""What an image of brainsim2 costs at several sizes, in one run: to simulate, train, attack. Processor time.

The classifier is the default one (ResNet-10, width 32) with untrained weights, and the labels are its own answers,
within a radius so small that no image breaks: every step is made of every rung of `ladder:standard` that an undefended
classifier has. Images that break early cost less.

python benchmarks/sizes.py [--sizes 64 128] [--images 8] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from bench import machine
from rich.console import Console
from rich.table import Table

import robustbench_med as rbmed
from rbmed_datasets.brainsim import sampling
from rbmed_datasets.brainsim.render import render
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import resolve_rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.grid.ladder import preset
from robustbench_med.plugins.registry import Registry
from robustbench_med.runtime.batching import find_device

EPS = 1e-5
RUNGS = ("oblivious", "transfer", "insider", "query")


def spent(work: Callable[[], Any]) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def simulated(size: int, images: int) -> float:
    """Seconds to simulate an image of the test split."""
    settings = sampling.Graded(size=size)
    people, labels = sampling.patients(settings, "test"), sampling.labels(settings, "test")
    pairs = list(zip(people, labels.tolist(), strict=True))[:: len(people) // images][:images]
    render(settings, *pairs[0])  # reads the atlas
    return spent(lambda: [render(settings, patient, label) for patient, label in pairs]) / len(pairs)


def classifier(size: int, seed: int, device: torch.device) -> rbmed.Classifier:
    """Untrained, as the defenses deploy it."""
    torch.manual_seed(seed)
    model = rbmed.load_component("model", "resnet").build(2, 1, size)
    net: rbmed.Classifier = model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return net


def gradient(size: int, device: torch.device) -> float:
    """Seconds for a gradient of an image in a batch of 64."""
    net, x = classifier(size, 0, device), torch.rand(64, 1, size, size, device=device)

    def work() -> None:
        part = x.clone().requires_grad_()
        torch.autograd.grad(net(part).sum(), part)

    work()
    return min(spent(work) for _ in range(3)) / len(x)


def training(size: int, device: torch.device) -> float:
    """Seconds for a training step of an image in a batch of 64, in bfloat16 as the presets train."""
    net = classifier(size, 0, device).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    x, y = torch.rand(64, 1, size, size, device=device), torch.arange(64, device=device) % 2

    def work() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = net.loss(x, y)
        torch.autograd.backward(loss)
        optimizer.step()

    work()
    return min(spent(work) for _ in range(3)) / len(x)


def ladder(size: int, images: int, device: torch.device) -> float:
    """Seconds for all rungs on an image, controls left out."""
    nets = [classifier(size, seed, device) for seed in range(3)]
    x = torch.rand(images, 1, size, size, device=device)
    names = tuple(f"p{row}" for row in range(images))
    split = rbmed.Split(x.cpu(), nets[0](x).argmax(1).cpu(), names, ("here",) * images)
    settings = EvaluationSettings(
        threat=rbmed.ThreatModel("linf", EPS, "ladder"),
        rungs=[resolve_rung(Registry(), ref) for ref in preset("standard").rungs if ref.access in RUNGS],
        num_classes=2,
        lesion_class=1,
        device=device,
        surrogate=nets[1],
        insider=nets[2],
    )
    pipeline = Pipeline(nets[0])

    def work() -> None:
        outcome = measure(pipeline, split, torch.arange(images), settings)
        assert outcome.attacked.robust(outcome.labels).all(), "an image broke, so that not every step was made"

    return spent(work) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device, console = find_device(args.device), Console(width=120)
    console.print(f"{machine(device)}; {args.images} images")
    table = Table("of one image", *(f"{size} px" for size in args.sizes), "last / first")
    for name, unit, scale, work in (
        ("simulation", "ms", 1e3, lambda size: simulated(size, args.images)),
        ("gradient, batches of 64", "ms", 1e3, lambda size: gradient(size, device)),
        ("training step, batches of 64", "ms", 1e3, lambda size: training(size, device)),
        ("ladder:standard, undefended", "s", 1.0, lambda size: ladder(size, args.images, device)),
    ):
        found = [work(size) for size in args.sizes]
        table.add_row(name, *(f"{scale * each:.3g} {unit}" for each in found), f"{found[-1] / found[0]:.2f} x")
    console.print(table)


if __name__ == "__main__":
    main()
