"""An adversarially trained classifier for the benchmarks, trained once and kept in the cache folder.

The undefended classifier of `brainsim`, trained on by PGD adversarial training (Madry et al. 2018) on the pooled
training images; the epoch with the best accuracy under attack on calibration images is kept. Some ten minutes on one
core.

python benchmarks/adversarial.py [--device auto]
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med.defenses.artifact import load_state, save_state
from robustbench_med.runtime.batching import find_device

EPS, STEPS, EPOCHS, BATCH, LR = 4 / 255, 5, 20, 64, 2e-3
#: Epochs over which eps grows to its full size, and epochs without gain after which training stops.
RAMP, PATIENCE = 3, 5
SEED = 0


class Subject(NamedTuple):
    """A classifier and the images it is attacked on."""

    classifier: rbmed.Classifier
    images: Tensor
    labels: Tensor


def undefended(device: torch.device, split: str = "test", limit: int | None = None) -> Subject:
    """The shipped FedAvg classifier of the embedded data set, and the first images of a split, client by client."""
    deployment = rbmed.load_defense("undefended", device=str(device))
    data = deployment.dataset.split(split)
    classifier = deployment.pipeline(deployment.artifact.clients[0]).classifier
    return Subject(classifier, data.images[:limit].to(device), data.labels[:limit].to(device))


def adversarially_trained(device: torch.device, split: str = "test", limit: int | None = None) -> Subject:
    """The adversarially trained classifier, trained if it is not there yet, and images as in `undefended`."""
    subject = undefended(device, split, limit)
    file = _file()
    if not file.exists():
        save_state(file, train(device).state_dict())
    subject.classifier.load_state_dict(load_state(file))
    return subject


def _file() -> Path:
    data = rbmed.load_dataset("brainsim").card().digest[:8]
    return rbmed.home() / "benchmarks" / f"adversarial-{data}.safetensors"


def train(device: torch.device) -> rbmed.Classifier:
    """The classifier of the best epoch, judged by PGD-10 on 256 calibration images."""
    classifier, images, labels = undefended(device, "train")
    _, *held_out = undefended(device, "calibration")
    chosen = torch.randperm(len(held_out[0]), generator=torch.Generator().manual_seed(SEED))[:256].to(device)
    judges = tuple(tensor[chosen] for tensor in held_out)
    classifier.requires_grad_(True)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=LR, weight_decay=5e-3, fused=True)
    chance = torch.Generator().manual_seed(SEED)
    best, best_state, since = -1.0, copy.deepcopy(classifier.state_dict()), 0
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=chance).to(device)
        for step, rows in enumerate(track(order.split(BATCH), f"adversarial training, epoch {epoch + 1}")):
            done = epoch + step * BATCH / len(images)
            for group in optimizer.param_groups:
                group["lr"] = LR * min(1.0, 10 * done / EPOCHS + 0.1) * 0.5 * (1 + math.cos(math.pi * done / EPOCHS))
            x, y = images[rows], labels[rows]
            x = torch.where((torch.rand(len(x), generator=chance) < 0.5).to(device).view(-1, 1, 1, 1), x.flip(-1), x)
            x_adv = pgd(classifier.eval(), x, y, EPS * min(1.0, (done + 0.1) / RAMP), STEPS, chance)
            loss = F.cross_entropy(classifier.train()(x_adv), y)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        clean, robust = judge(classifier.eval(), *judges)
        print(f"epoch {epoch + 1}: calibration accuracy {clean:.3f}, under PGD-10 {robust:.3f}", flush=True)
        since += 1
        if robust > best:
            best, best_state, since = robust, copy.deepcopy(classifier.state_dict()), 0
        if since == PATIENCE:
            break
    classifier.load_state_dict(best_state)
    return classifier.requires_grad_(False)


def judge(classifier: rbmed.Classifier, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Accuracy on clean images and under PGD-10 at `EPS`."""
    x_adv = pgd(classifier, x, y, EPS, 10, torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        clean, robust = ((classifier(images).argmax(1) == y).float().mean() for images in (x, x_adv))
    return float(clean), float(robust)


def pgd(classifier: rbmed.Classifier, x: Tensor, y: Tensor, eps: float, steps: int, chance: torch.Generator) -> Tensor:
    """Linf PGD on cross-entropy from a random start, in bfloat16 where the processor has it: a training aid only."""
    half = x.is_cuda or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    x_adv = (x + eps * (2 * torch.rand(x.shape, generator=chance).to(x.device) - 1)).clamp(0, 1)
    for _ in range(steps):
        x_adv.requires_grad_()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(classifier(x_adv).float(), y, reduction="sum")
        gradient = torch.autograd.grad(loss, x_adv)[0]
        x_adv = x_adv.detach() + 2.5 * eps / steps * gradient.sign()
        x_adv = torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)
    return x_adv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    device = find_device(parser.parse_args().device)
    classifier, *test = adversarially_trained(device)
    clean, robust = judge(classifier, *test)
    print(f"{_file()}: test accuracy {clean:.3f}, under PGD-10 at 4/255 {robust:.3f}")


if __name__ == "__main__":
    main()
