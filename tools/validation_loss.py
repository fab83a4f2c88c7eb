"""The loss of a part on *calibration* images after trainings that differ: how training options are compared.

    python tools/validation_loss.py diffpure purifier "fedavg:rounds=9,local_epochs=3,lr=6e-4" "fedavg:...,ema=0.95"
    python tools/validation_loss.py medfedpure detector "fedavg:rounds=9" "fedavg:rounds=9,ema=0.95" --dataset brainsim2

The part is trained over the clients with each strategy in turn, from the same initial weights, and nothing is stored.
Random masks, times and noise of the loss are the same for all of them.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from robustbench_med import Learner, Split, TrainJob
from robustbench_med.datasets.loading import open_dataset
from robustbench_med.defenses.building import PartBuilder, PartFolders, build_for
from robustbench_med.defenses.resolved import resolve_defense
from robustbench_med.interfaces.defense import System
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.runtime.batching import find_device
from robustbench_med.training.parts import NoClassifier


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("defense")
    parser.add_argument("part", choices=("classifier", "detector", "purifier"))
    parser.add_argument("training", nargs="+", help="a strategy")
    parser.add_argument("--dataset", default="brainsim2")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--repeats", type=int, default=8, help="draws of the loss for each image")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    registry, device = Registry(), find_device(args.device)
    dataset = open_dataset(registry, parse(args.dataset), args.data_root)
    card, clients = dataset.card(), dataset.split("train").by_site()
    resolved = resolve_defense(registry, parse(args.defense))
    parts = PartBuilder(resolved, card, PartFolders({}), device)

    def build() -> Learner:
        if args.part == "classifier":
            return build_for(resolved.model, card)
        part = parts.fresh(resolved.learned()[args.part])
        return part.to(device).learner(System(NoClassifier(), None))

    table = Table("training", "loss", "CPU seconds", title=f"{args.part} of {args.defense} on {args.dataset}")
    for text in args.training:
        before = resource.getrusage(resource.RUSAGE_SELF)
        strategy = create(registry, "strategy", text)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(args.seed)
            state = strategy.train(build, clients, TrainJob(seed=args.seed, device=device)).shared
        after = resource.getrusage(resource.RUSAGE_SELF)
        learner = build()
        learner.load_state_dict(state)
        loss = validation_loss(learner.to(device).eval(), dataset.split("calibration"), args.repeats, device)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        table.add_row(text.replace("[", "\\["), f"{loss:.5f}", f"{seconds:.0f}")
        Console(width=170).print(table)


@torch.no_grad()
def validation_loss(learner: Learner, split: Split, repeats: int, device: torch.device) -> float:
    """Mean over the images and over ``repeats`` draws of whatever the loss draws."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = [part for _ in range(repeats) for part in torch.arange(len(split)).split(64)]
        losses = [learner.loss(split.images[part].to(device), split.labels[part].to(device)) for part in rows]
    lengths = torch.tensor([float(len(part)) for part in rows])
    return float((torch.stack([loss.float().cpu() for loss in losses]) * lengths).sum() / lengths.sum())


if __name__ == "__main__":
    main()
