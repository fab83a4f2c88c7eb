"""What the engine costs: one grid beside separate runs, time outside the cells, start to first batch, Ray's workers.

python benchmarks/grid.py [PART ...] [--runs 3] [--limit 64] [--steps 20] [--device auto]

- grid: 2 defenses x 3 attacks x clients in one `rbmed run`, and every cell in an `rbmed run` of its own.
- engine: share of a run's time that is spent outside of its cells, and outside of their models.
- cells: processor time outside of the cells, for each of 20 small cells of one run, beside that of a run of one.
- start: from calling `rbmed run` to an attack's first call.
- plan: processor time of `rbmed plan --no-estimate` of 2,080 cells.
- forecast: processor time of an estimate from an empty cache, as a share of what it forecasts.
- local, ray, slurm: equal cells on one worker and on two, with one core each: processes, Ray's actors, and
  Slurm's tasks (where there is a cluster).
- gpu: share of the time in which a CUDA device computes, over a run of attack cells.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from bench import Stopwatch, machine, share_busy
from rich.console import Console

import robustbench_med as rbmed
from robustbench_med.grid.config import build
from robustbench_med.plugins.registry import Registry
from robustbench_med.runner import evaluator
from robustbench_med.runner.preview import Preview
from robustbench_med.runtime.batching import find_device

Options = dict[str, Any]
#: An attack that writes down when it was called.
STAMP = """
import time
from pathlib import Path
import robustbench_med as rbmed
from robustbench_med import hookimpl

class Stamp(rbmed.Attack):
    class Params(rbmed.Params):
        file: str = rbmed.Field(description="Where.")

    def run(self, model, x, y, threat, budget, rng):
        Path(self.params.file).write_text(str(time.time()))
        return x.clone()

@hookimpl
def rbmed_attacks():
    yield rbmed.AttackSpec(name="stamp", target=f"{__name__}:Stamp", summary="when", norms=("linf",), access="none")
"""


def command(options: Options, out: Path, plugin: Path | None = None) -> float:
    """Wall time of one `rbmed run` in a process of its own."""
    words = [
        word
        for name, values in options.items()
        for value in (values if isinstance(values, list) else [values])
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    before = [] if plugin is None else ["-p", str(plugin)]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "robustbench_med", *before, "run", *words, "--out", str(out), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - start


def in_one_grid(base: Options, axes: dict[str, list[str]], folder: Path) -> tuple[float, str]:
    """Time of one run over time of a run for each cell."""
    together = command(base | axes, folder / "grid")
    cells = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    apart = sum(command(base | cell, folder / f"cell-{number}") for number, cell in enumerate(cells))
    return together / apart, f"{len(cells)} cells: {together:.1f} s in one run, {apart:.1f} s in {len(cells)} runs"


@contextmanager
def watched(device: torch.device) -> Iterator[list[Stopwatch]]:
    """Stopwatches on the classifiers that cells load."""
    watches: list[Stopwatch] = []
    measure_chunks = evaluator.measure_chunks

    def watching(pipeline: Any, *arguments: Any) -> Any:
        watches.append(Stopwatch(pipeline.classifier, device))
        return measure_chunks(pipeline, *arguments)

    evaluator.measure_chunks = watching
    try:
        yield watches
    finally:
        evaluator.measure_chunks = measure_chunks


def in_the_engine(options: Options, folder: Path, device: torch.device) -> tuple[float, str]:
    """Share of a run that is not spent in its cells; imports and first use of everything are over."""
    rbmed.evaluate(**options, out=folder / "warm", seed=99)
    with watched(device) as watches:
        start = time.perf_counter()
        records = rbmed.evaluate(**options, out=folder / "timed")
        taken = time.perf_counter() - start
    cells, model = sum(record.seconds for record in records), sum(watch.total for watch in watches)
    detail = f"{len(records)} cells, {taken:.1f} s: {cells:.1f} s in cells, {model:.1f} s in passes of their models"
    return 1 - cells / taken, f"{detail} ({1 - model / taken:.1%} outside of these)"


def outside_of_cells(options: Options, folder: Path) -> tuple[float, str]:
    """Processor seconds for each of many small cells that are not spent in it; imports are over."""
    used, cells = {}, 20
    with patch.object(time, "perf_counter", time.process_time):  # records then have processor seconds
        rbmed.evaluate(**options, out=folder / "warm", seed=99)
        for number in (1, cells):
            start = time.process_time()
            records = rbmed.evaluate(**options, out=folder / str(number), seed=list(range(100 * number, 101 * number)))
            used[number] = time.process_time() - start - sum(record.seconds for record in records)
    return used[cells] / cells, f"a run of one cell: {used[1]:.2f} s; of {cells}: {used[cells]:.2f} s"


def of_a_forecast(folder: Path) -> tuple[float, str]:
    """Largest share that an estimate takes of what it forecasts, in processor time; loading comes before."""
    shares, said = [], []
    with patch.object(time, "perf_counter", time.process_time):
        for defense in ("undefended", "shielded:jpeg", "medfedpure"):
            config = build({"defense": defense, "dataset": "brainsim", "limit": 4, "baseline": "", "out": folder / "x"})
            Preview(config, Registry()).items(estimate=False)
            with patch("robustbench_med.runner.throughput.home", return_value=folder / str(len(shares))):
                preview = Preview(config, Registry())
                spent = sum(item.cost.seconds for item in preview.items() if item.cost)
            shares.append(preview.costs.seconds / spent)
            said.append(f"{defense} {preview.costs.seconds:.2f} s of {spent:.2f} s")
    return max(shares), ", ".join(said)


def to_first_batch(base: Options, folder: Path) -> tuple[float, str]:
    """Seconds from starting the process to the attack's first call."""
    plugin, stamp = folder / "stamped.py", folder / "when"
    plugin.write_text(STAMP)
    start = time.time()
    taken = command(base | {"attack": f"stamp:file={stamp}"}, folder / "out", plugin)
    return float(stamp.read_text()) - start, f"the whole run took {taken:.1f} s"


def of_a_plan(folder: Path) -> tuple[float, str]:
    """Processor time of a process that lists 2,080 cells."""
    axes = {
        "defense": ["undefended", "medfedpure"],
        "attack": ["apgd", "pgd", "fgsm", "mifgsm", "apgd:steps=20"],
        "eps": ["1/255", "2/255", "4/255", "8/255"],
        "seed": list(map(str, range(13))),
    }
    words = [word for name, values in axes.items() for value in values for word in (f"--{name}", value)]
    words += ["--baseline", "", "--access", "oblivious", "--each-client", "--no-estimate", "--out", str(folder)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(
        [sys.executable, "-m", "robustbench_med", "plan", *words], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, said.stdout.splitlines()[-1]


def on_two_workers(executor: str, base: Options, cells: int, folder: Path) -> tuple[float, str]:
    """Time on one worker over time on two; start-up of Ray and of its workers, or waiting for Slurm, included."""
    name = "tasks" if executor == "slurm" else "workers"
    one, two = (
        command(
            base | {"seed": list(range(cells)), "executor": f"{executor}:{name}={workers},cpus=1"},
            folder / str(workers),
        )
        for workers in (1, 2)
    )
    return one / two, f"{cells} cells: {one:.1f} s on one worker, {two:.1f} s on two"


def on_the_gpu(options: Options, folder: Path) -> tuple[float, str]:
    """Share of a run's time in which the GPU computes."""
    rbmed.evaluate(**options, out=folder / "warm", seed=99)
    return share_busy(lambda: rbmed.evaluate(**options, out=folder / "timed")), "a run of attack cells"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = ["grid", "engine", "cells", "start", "plan", "forecast", "local", "ray", "slurm", "gpu"]
    parser.add_argument("parts", nargs="*", default=every)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=64, help="images of a cell")
    parser.add_argument("--steps", type=int, default=20, help="of every attack")
    parser.add_argument("--cells", type=int, default=8, help="for local, ray and slurm")
    parser.add_argument("--clients", nargs="+", default=[f"hospital-{n}" for n in range(1, 5)])
    parser.add_argument("--dataset", default="brainsim")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = find_device(args.device)
    attack = f"apgd:steps={args.steps}"
    base = {"dataset": args.dataset, "access": "oblivious", "limit": args.limit, "device": args.device, "baseline": ""}
    plain = base | {"defense": "undefended", "attack": attack}
    fast = plain | {"attack": "fgsm"}
    axes = {
        "defense": ["undefended", "medfedpure"],
        "attack": [attack, f"pgd:steps={args.steps}", f"mifgsm:steps={args.steps}"],
        "client": args.clients,
    }
    parts: dict[str, tuple[str, Callable[[Path], tuple[float, str]]]] = {
        "grid": ("one run / separate runs (goal: 0.5)", lambda folder: in_one_grid(base, axes, folder)),
        "engine": ("share outside of cells (goal: 0.05)", lambda folder: in_the_engine(plain, folder, device)),
        "cells": (
            "processor seconds outside of each of 20 cells (goal: 0.45)",
            lambda folder: outside_of_cells(fast, folder),
        ),
        "start": ("seconds to first batch (goal: 9)", lambda folder: to_first_batch(plain, folder)),
        "plan": ("processor seconds of a plan of 2,080 cells (goal: 3)", of_a_plan),
        "forecast": ("trial / forecast, the largest (goal: 0.1)", of_a_forecast),
        "local": ("one worker / two (goal: 1.7)", lambda folder: on_two_workers("local", plain, args.cells, folder)),
        "ray": ("one worker / two (goal: 1.7)", lambda folder: on_two_workers("ray", plain, args.cells, folder)),
        "slurm": ("one task / two (goal: 1.8)", lambda folder: on_two_workers("slurm", plain, args.cells, folder)),
        "gpu": ("share busy (goal: 0.9)", lambda folder: on_the_gpu(plain, folder)),
    }
    console = Console(width=120)
    console.print(f"{args.limit} images a cell, {args.steps} steps, {machine(device)}, {args.runs} runs")
    for name in args.parts:
        said, measure = parts[name]
        if name == "gpu" and device.type != "cuda":
            console.print("gpu: no GPU here")
            continue
        if name == "slurm" and shutil.which("sbatch") is None:
            console.print("slurm: no Slurm here")
            continue
        found = []
        for _ in range(args.runs):
            with tempfile.TemporaryDirectory() as folder:
                found.append(measure(Path(folder)))
        values = [value for value, _ in found]
        console.print(
            f"{name}: {said}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}); "
            f"last: {found[-1][1]}",
            highlight=False,
        )


if __name__ == "__main__":
    main()
