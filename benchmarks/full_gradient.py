"""Memory and time of the exact gradient through a 10-step diffusion purifier, each variant in a process of its own.

64 images of 64 px, U-Net of 0.62 M parameters (ddim:fold=1,width=16,levels=3), untrained: its weights do not matter.
`stored` keeps the graph of all steps, as the purifier did before it recomputed them: on the whole batch at once, or in
the parts that it now works in. Memory is the peak over what the process held before the first gradient.

python benchmarks/full_gradient.py [--runs 5] [--images 64] [--steps 10] [--device auto]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch
from bench import machine, seconds
from rich.console import Console
from rich.table import Table
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion import purifier as diffusion
from rbmed_purifiers.diffusion import walk
from robustbench_med.runtime.batching import find_device


class Stored:
    """Stands in for the function that recomputes: autograd keeps every step's graph."""

    @staticmethod
    def apply(z: Tensor, image: Tensor, moves: Sequence[walk.Move]) -> Tensor:
        """All moves."""
        for move in moves:
            z = move(z, image)
        return z


def gradient(mode: str, steps: int, images: int, runs: int, device: torch.device) -> dict[str, float]:
    """Median seconds and peak GiB of a gradient; ``mode`` is recomputed, stored or stored-whole."""
    if mode != "recomputed":
        walk._Recomputed = Stored
    else:
        diffusion.STORED = dict.fromkeys(diffusion.STORED, 0)
    if mode == "stored-whole":
        diffusion.CHUNK = dict.fromkeys(diffusion.CHUNK, images)
    torch.manual_seed(0)
    purifier = rbmed.load_component("purifier", f"ddim:fold=1,width=16,levels=3,steps={steps}")
    purifier.build(1, 64)
    purifier.to(device).eval().requires_grad_(False)
    x = torch.rand(images, 1, 64, 64, device=device)

    def work(n: int = images) -> None:
        rng = rbmed.Stream.named("benchmark", 0, torch.arange(n, device=device))
        part = x[:n].clone().requires_grad_()
        purified = purifier.purify(part, torch.full((n,), 0.5, device=device), rng)
        torch.autograd.grad(purified.square().sum(), part)

    work(1)
    before = peak(device)
    work()
    memory = peak(device) - before
    return {"seconds": seconds(work, runs, device)[0], "gib": memory}


def peak(device: torch.device) -> float:
    """GiB: of the GPU's allocations, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def in_own_process(mode: str, steps: int, args: argparse.Namespace) -> dict[str, Any]:
    """`gradient` in a fresh process, whose peak memory is its own."""
    options = ["--images", str(args.images), "--runs", str(args.runs), "--device", args.device, "--steps", str(steps)]
    command = [sys.executable, __file__, "--only", mode, *options]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", choices=["recomputed", "stored", "stored-whole"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = find_device(args.device)
    if args.only:
        print(json.dumps(gradient(args.only, args.steps, args.images, args.runs, device)))
        return
    console = Console(width=120)
    console.print(f"{machine(device)}; {args.images} images of 64 px, gradient, median of {args.runs}")
    many = args.steps
    measured = {
        f"recomputed, {many} steps": in_own_process("recomputed", many, args),
        f"stored, {many} steps, whole batch": in_own_process("stored-whole", many, args),
        f"stored, {many} steps, in parts": in_own_process("stored", many, args),
        "recomputed, 1 step": in_own_process("recomputed", 1, args),
        "stored, 1 step, whole batch": in_own_process("stored-whole", 1, args),
    }
    table = Table("variant", "seconds", "peak GiB")
    for name, found in measured.items():
        table.add_row(name, f"{found['seconds']:.2f}", f"{found['gib']:.2f}")
    console.print(table)
    ours, whole, parts, one, _ = measured.values()
    console.print(
        f"memory: {many} steps / 1 step, both recomputed {ours['gib'] / one['gib']:.2f} (target <= 1.5); "
        f"time: recomputed / stored on the whole batch {ours['seconds'] / whole['seconds']:.2f} "
        f"(target <= 1.2), / stored in parts {ours['seconds'] / parts['seconds']:.2f}"
    )


if __name__ == "__main__":
    main()
