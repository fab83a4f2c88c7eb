"""The same federation in one process and in Flower's simulation on Ray: wall time, and whether the weights are equal.

`inprocess` runs twice, with torch threads on all cores and on one; `simulation` trains as many clients at a time as
there are cores, with one thread each. So its weights are to be those of `inprocess` with one thread, to the bit; other
numbers of threads round differently. Engines take turns within a run, and ratios are of one run's times.

python benchmarks/engines.py [--runs 5] [--clients 4 10] [--patients 60] [--rounds 3] [--model resnet:width=16]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Mapping

import torch
from bench import machine
from rich.console import Console
from rich.table import Table

import robustbench_med as rbmed


def train(
    engine: str, threads: int, clients: Mapping[str, rbmed.Split], model: rbmed.Model, rounds: int
) -> tuple[float, float, rbmed.Federated]:
    """Wall time, the part of it that is rounds (not the start and end of an engine), and the result."""
    strategy = rbmed.load_component("strategy", f"fedavg:rounds={rounds},local_epochs=1,engine=[{engine}]")
    size = next(iter(clients.values())).images.shape[-1]
    torch.set_num_threads(threads)
    start = time.perf_counter()
    result = strategy.train(lambda: model.build(2, 1, size), clients, rbmed.TrainJob())
    taken = time.perf_counter() - start
    return taken, sum(entry["seconds"] for entry in result.history), result


def difference(a: rbmed.Federated, b: rbmed.Federated) -> str:
    """Largest difference between the weights of two results."""
    if all(torch.equal(a.shared[name], b.shared[name]) for name in b.shared):
        return "the same bits"
    return f"{max(float((a.shared[name] - b.shared[name]).abs().max()) for name in b.shared):.1g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[4, 10])
    parser.add_argument("--patients", type=int, default=60, help="training patients of each of four hospitals")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="resnet:width=16")
    args = parser.parse_args()

    cores = os.cpu_count() or 1
    data = f"brainsim:train_patients={args.patients},calibration_patients=10,test_patients=10"
    model = rbmed.load_component("model", args.model)
    engines = [("inprocess", cores), ("inprocess", 1), (f"simulation:cores={cores}", 1)]
    torch.set_num_threads(cores)
    console = Console(width=110)
    console.print(f"{args.model}, {args.rounds} rounds of one epoch, {machine(torch.device('cpu'))}, {args.runs} runs")
    table = Table("Clients", "Images", "Engine", "Threads", "Seconds", "Rounds alone", "Ratio (range)", "Weights")
    for number in args.clients:
        split = rbmed.load_dataset(data, partition=f"iid:clients={number}").split("train")
        clients = split.by_site()
        train("inprocess", cores, clients, model, 1)  # loads what is loaded once
        runs = [
            [train(engine, threads, clients, model, args.rounds) for engine, threads in engines]
            for _ in range(args.runs)
        ]
        for at, (engine, threads) in enumerate(engines):
            ratios = sorted(run[at][0] / run[0][0] for run in runs)
            table.add_row(
                str(number),
                str(len(split)),
                engine,
                str(threads),
                f"{statistics.median(run[at][0] for run in runs):.2f}",
                f"{statistics.median(run[at][1] for run in runs):.2f}",
                f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                difference(runs[-1][at][2], runs[-1][1][2]),
            )
    console.print(table)
    console.print("Ratio: seconds beside `inprocess` on all cores. Weights: beside `inprocess` with one thread.")


if __name__ == "__main__":
    main()
