"""`autoattack` beside pyautoattack on adversarially trained nets: time and robust accuracy, one table.

Two nets: the shipped classifier of `medfedpure-plus` (2 classes, 64 px, 8/255), on which pyautoattack runs APGD-CE, FAB
and Square, since its standard version needs four classes; and a small net for the ten classes of scikit-learn's digits
(16 px, eps 0.1), trained here in seconds, on which pyautoattack runs its standard version. Ours is what
`rbmed run --access oblivious --attack autoattack` does, scoring included.

python benchmarks/autoattack.py [--runs 1] [--images 16] [--digits 64] [--device auto]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import pyautoattack.autoattack
import torch
import torch.nn.functional as F
from adversarial import pgd
from bench import machine, seconds
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_attacks.autoattack import AutoAttack
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import Rung, RungRef
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.plugins.references import parse
from robustbench_med.runtime.batching import find_device

SEED, DIGITS_EPS, EPOCHS = 0, 0.1, 25


class Job(NamedTuple):
    """A net, and the images it is attacked on in Linf."""

    net: rbmed.Classifier
    split: rbmed.Split
    eps: float
    classes: int


class Digits(rbmed.Classifier):
    """A small convolutional net for images of 16 px and ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10)."""
        logits: Tensor = self.layers(x)
        return logits


def shipped(device: torch.device, images: int) -> Job:
    """The classifier of `medfedpure-plus`, and test images of all clients."""
    deployment = rbmed.load_defense("medfedpure-plus", device=str(device))
    test = deployment.dataset.split("test")
    split = test.select(rows_to_evaluate(test, tuple(sorted(set(test.sites))), images))
    return Job(deployment.pipeline(deployment.artifact.clients[0]).classifier, split, 8 / 255, 2)


def digits(device: torch.device, images: int) -> Job:
    """A net trained on PGD-5 images of `DIGITS_EPS`, and images it was not trained on."""
    data, chance = load_digits(), torch.Generator().manual_seed(SEED)
    x = F.interpolate(torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, scale_factor=2.0, mode="bilinear")
    order = torch.randperm(len(x), generator=chance)
    x, y = x.clamp(0, 1)[order].to(device), torch.tensor(data.target).long()[order].to(device)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        net = Digits().to(device)
    optimizer, train = torch.optim.AdamW(net.parameters(), lr=3e-3), len(x) - 320
    for _ in range(EPOCHS):
        for rows in torch.randperm(train, generator=chance).split(64):
            attacked = pgd(net.eval(), x[rows], y[rows], DIGITS_EPS, 5, chance)
            loss = F.cross_entropy(net.train()(attacked), y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    net.eval().requires_grad_(False)
    test = slice(train, train + images)
    split = rbmed.Split(x[test].cpu(), y[test].cpu(), tuple(map(str, range(images))), ("digits",) * images)
    return Job(net, split, DIGITS_EPS, 10)


def ours(job: Job, device: torch.device, version: str) -> Callable[[], Tensor]:
    """The harness on a pipeline that is only a classifier; returns whether each image withstood."""
    attack = AutoAttack(AutoAttack.Params.model_validate({"version": version}))
    settings = EvaluationSettings(
        threat=rbmed.ThreatModel("linf", job.eps, "oblivious"),
        rungs=[Rung(RungRef("oblivious", parse("autoattack")), attack)],
        num_classes=job.classes,
        lesion_class=None,
        device=device,
        batch=len(job.split),
    )
    pipeline, index = Pipeline(job.net), torch.arange(len(job.split))
    return lambda: measure(pipeline, job.split, index, settings).attacked.robust(job.split.labels)[0]


def theirs(job: Job, device: torch.device) -> Callable[[], Tensor]:
    """Pyautoattack on all images at once, then one forward pass to score."""
    images, labels = job.split.images.to(device), job.split.labels.to(device)
    common = {"norm": "Linf", "eps": job.eps, "seed": SEED, "device": device}
    if job.classes >= 10:
        attack = pyautoattack.autoattack.AutoAttack(job.net, version="standard", **common)
    else:
        parts = ["apgd-ce", "fab", "square"]
        attack = pyautoattack.autoattack.AutoAttack(job.net, version="custom", attacks=parts, **common)
        attack.apgd.n_restarts = attack.fab.n_restarts = 1

    def run() -> Tensor:
        found, _ = attack.run_standard_evaluation(images, labels)
        with torch.no_grad():
            return (job.net(found).argmax(1) == labels).cpu()

    return run


def compare(title: str, job: Job, runs: int, device: torch.device, console: Console) -> None:
    """Run all sides on one net, in turn, and print their figures."""
    table = Table("attack", "seconds", "early faster by", "robust", "only early withstood", title=title)
    sides = {
        "ours, version=early": ours(job, device, "early"),
        "ours": ours(job, device, "auto"),
        "pyautoattack 0.2.0": theirs(job, device),
    }
    first = None
    for name, attack in sides.items():
        taken, safe = seconds(attack, runs, device)
        first = first or (taken, safe)
        spared = int((first[1] & ~safe).sum())
        table.add_row(
            name, f"{taken:.1f}", f"{taken / first[0]:.2f} x", f"{int(safe.sum())} of {len(safe)}", str(spared)
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--digits", type=int, default=64)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device, console = find_device(args.device), Console(width=120)
    console.print(f"{machine(device)}; median of {args.runs}")
    if args.digits:
        compare("digits, 10 classes", digits(device, args.digits), args.runs, device, console)
    if args.images:
        compare("medfedpure-plus, 2 classes", shipped(device, args.images), args.runs, device, console)


if __name__ == "__main__":
    main()
