"""Auto-PGD beside pyautoattack and torchattacks: same classifier, images, steps and eps, side by side in one table.

Ours is what `rbmed run --access oblivious --attack apgd` does, scoring of clean and attacked images included. Two
classifiers of the embedded data set: undefended, and adversarially trained (trained at the first call). The others get
their images in batches of 250, the default of pyautoattack, and again in batches of our size.

python benchmarks/attacks.py [--runs 5] [--images 256] [--steps 100] [--batch-size 64] [--device auto]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import pyautoattack.autopgd_base
import torch
import torchattacks
from adversarial import EPS, adversarially_trained, undefended
from bench import machine, seconds, share_busy, share_outside
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_attacks.apgd import APGD
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import Rung, RungRef
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.plugins.references import parse
from robustbench_med.runtime.batching import chunk_size, find_device

Attack = Callable[[], Tensor]


class Job(NamedTuple):
    """What every side is given."""

    classifier: rbmed.Classifier
    split: rbmed.Split
    steps: int
    batch: int
    device: torch.device


def ours(job: Job, loss: str) -> Attack:
    """The harness on a pipeline that is only a classifier; returns whether each image withstood."""
    rung = Rung(RungRef("oblivious", parse("apgd")), APGD(APGD.Params(steps=job.steps, loss=loss)))
    settings = EvaluationSettings(
        threat=rbmed.ThreatModel("linf", EPS, "oblivious"),
        rungs=[rung],
        num_classes=2,
        lesion_class=None,
        device=job.device,
        batch=job.batch,
    )
    pipeline, index = Pipeline(job.classifier), torch.arange(len(job.split))
    return lambda: measure(pipeline, job.split, index, settings).attacked.robust(job.split.labels)[0]


def theirs(job: Job, perturb: Callable[[Tensor, Tensor], Tensor], batch: int) -> Attack:
    """Another library on batches of that size, then one forward pass to score."""
    images, labels = job.split.images.to(job.device), job.split.labels.to(job.device)

    def attack() -> Tensor:
        parts = []
        for x, y in zip(images.split(batch), labels.split(batch), strict=True):
            x_adv = perturb(x, y)
            assert (x_adv - x).abs().max() <= EPS + 1e-6
            with torch.no_grad():
                parts.append(job.classifier(x_adv).argmax(1) == y)
        return torch.cat(parts)

    return attack


def sides(job: Job) -> dict[str, tuple[str, Attack]]:
    """Name -> (loss, attack)."""
    official = pyautoattack.autopgd_base.APGDAttack(
        job.classifier, n_iter=job.steps, norm="Linf", n_restarts=1, eps=EPS, seed=0, loss="ce", device=job.device
    )
    other = torchattacks.APGD(job.classifier, norm="Linf", eps=EPS, steps=job.steps, n_restarts=1, seed=0, loss="ce")
    return {
        "ours": ("ce", ours(job, "ce")),
        "ours (default loss)": ("margin", ours(job, "auto")),
        **{
            f"{name}, batches of {batch}": ("ce", theirs(job, perturb, batch))
            for batch in (250, job.batch)
            for name, perturb in (("pyautoattack 0.2.0", official.perturb), ("torchattacks 3.5.1", other))
        },
    }


def compare(title: str, job: Job, runs: int, console: Console) -> None:
    """Run all sides on one classifier and print their figures."""
    table = Table("attack", "loss", "seconds", "images/s", "ours faster by", "robust", "outside the model", title=title)
    gpu = job.device.type == "cuda"
    if gpu:
        table.add_column("GPU busy")
    first = None
    for name, (loss, attack) in sides(job).items():
        taken, safe = seconds(attack, runs, job.device)
        first = first or taken
        row = [f"{taken:.2f}", f"{len(safe) / taken:.0f}", f"{taken / first:.2f} x", f"{safe.float().mean():.4f}"]
        row.append(f"{share_outside(attack, job.classifier, job.device):.1%}")
        table.add_row(name, loss, *row, *([f"{share_busy(attack):.1%}"] if gpu else []))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", default="auto")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device, console = find_device(args.device), Console(width=120)
    batch = chunk_size(args.batch_size, device)
    test = rbmed.load_dataset("brainsim").split("test")
    split = test.select(rows_to_evaluate(test, tuple(sorted(set(test.sites))), args.images))
    console.print(
        f"{machine(device)}; {len(split)} images of 64 px, {args.steps} steps, ours in batches of {batch}, "
        f"Linf {EPS:.5f}, median of {args.runs}"
    )
    for title, subject in (("undefended", undefended), ("adversarially trained", adversarially_trained)):
        classifier: nn.Module = subject(device).classifier
        compare(title, Job(classifier, split, args.steps, batch, device), args.runs, console)


if __name__ == "__main__":
    main()
