"""What the convolutions of the purifier's U-Net alone cost: how much faster an exact gradient could become at most.

Every convolution of one pass, forward and gradient of its input, alone, in the shapes, layout and chunk in which the
purifier uses it, and one gradient through the whole network. A network in which all else were free would take the sum
of the convolutions. Processor time of one thread, alternately, so that other work on the machine slows both alike.

python benchmarks/convolutions.py [--runs 15] [--images 16] [--channels-first]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from bench import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import robustbench_med as rbmed

#: The time at which images are denoised; it changes no cost.
TIME = 60


def layers(net: nn.Module, z: Tensor, t: Tensor) -> list[tuple[nn.Conv2d, Tensor]]:
    """Each convolution of a pass with what goes into it, in order."""
    found: list[tuple[nn.Conv2d, Tensor]] = []

    def seen(layer: Any, inputs: Any) -> None:
        found.append((layer, inputs[0].detach()))

    hooks = [layer.register_forward_pre_hook(seen) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        net(z, t)
    for hook in hooks:
        hook.remove()
    return found


def operations(layer: nn.Conv2d, x: Tensor) -> int:
    """Multiplications and additions of the forward pass; the gradient of the input takes as many."""
    return 2 * layer.weight.numel() * layer(x).shape[2:].numel() * len(x)


def of_layer(layer: nn.Conv2d, x: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The forward pass, and the gradient of the input."""
    gradient = torch.ones_like(layer(x))
    shape: Any = (layer.stride, layer.padding, layer.dilation, False, [0, 0], 1, [True, False, False])
    return (
        lambda: layer(x),
        lambda: torch.ops.aten.convolution_backward(gradient, x, layer.weight, [len(gradient[0])], *shape),
    )


def of_network(net: nn.Module, z: Tensor, t: Tensor) -> Callable[[], Any]:
    """One gradient through the whole network."""

    def work() -> Any:
        x = z.clone().requires_grad_()
        return torch.autograd.grad(net(x, t).sample.sum(), x)

    return work


def taken(works: list[Callable[[], Any]], runs: int) -> list[float]:
    """Median processor seconds of each, measured in turns."""
    found: list[list[float]] = [[] for _ in works]
    for run in range(runs + 1):
        for work, times in zip(works, found, strict=True):
            start = time.process_time()
            work()
            if run:  # the first one warms up
                times.append(time.process_time() - start)
    return [statistics.median(times) for times in found]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--channels-first", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    purifier = rbmed.load_component("purifier", "ddim")
    purifier.build(1, 64)
    layout = torch.contiguous_format if args.channels_first else torch.channels_last
    net = purifier.net.eval().requires_grad_(False).to(memory_format=layout)
    z = torch.randn(args.images, 4, 32, 32).contiguous(memory_format=layout)
    t = torch.full((args.images,), TIME)
    with torch.no_grad():
        convolutions = layers(net, z, t)
        works = [work for layer, x in convolutions for work in of_layer(layer, x)]
        counts = [operations(layer, x) for layer, x in convolutions]
    whole, *parts = taken([of_network(net, z, t), *works], args.runs)
    report(args.images, convolutions, counts, parts, whole)


def report(
    images: int, convolutions: list[tuple[nn.Conv2d, Tensor]], counts: list[int], parts: list[float], whole: float
) -> None:
    """A line for each kind of convolution, and the sums."""
    kinds: dict[str, list[int]] = {}
    for at, (layer, x) in enumerate(convolutions):
        channels = f"{layer.in_channels:>3} -> {layer.out_channels:>3}, {layer.kernel_size[0]} x {layer.kernel_size[0]}"
        kinds.setdefault(f"{channels}, stride {layer.stride[0]}, from {x.shape[2]} px", []).append(at)
    console = Console(width=120)
    console.print(f"{machine(torch.device('cpu'))}; {images} images, one thread")
    table = Table("convolution", "times", "GFLOP", "forward, GFLOP/s", "gradient of the input, GFLOP/s", "ms an image")
    for kind, places in kinds.items():
        flops = sum(counts[at] for at in places)
        ahead, back = (sum(parts[2 * at + way] for at in places) for way in (0, 1))
        rates = [f"{flops / seconds / 1e9:.0f}" for seconds in (ahead, back)]
        table.add_row(kind, str(len(places)), f"{flops / 1e9:.2f}", *rates, f"{(ahead + back) / images * 1e3:.2f}")
    console.print(table)
    total, all_flops = sum(parts), 2 * sum(counts)
    console.print(
        f"a gradient: {whole / images * 1e3:.2f} ms an image, of which convolutions {total / images * 1e3:.2f} ms "
        f"({total / whole:.0%}): {all_flops / images / 1e9:.2f} GFLOP at {all_flops / total / 1e9:.0f} GFLOP/s; "
        f"were all else free: {whole / total:.2f} x as fast"
    )


if __name__ == "__main__":
    main()
