"""Measure brainsim: does a central ResNet learn the task, and do nuisance variables alone give the label away?

    python tools/check_brainsim.py [--dataset brainsim2] [--noise 0.1] [--epochs 10] [--size 64] [--split test]

Prints balanced accuracies of classifiers on nuisance variables (5 folds by patient, within each hospital), then the
accuracy of a ResNet-10 trained on all hospitals together, on the calibration patients or those of ``--split``; for
brainsim2 also the sensitivity by size and contrast of the lesions.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from rbmed_datasets.brainsim import sampling
from rbmed_datasets.brainsim.dataset import BrainSim, BrainSim2, Simulated
from rbmed_datasets.brainsim.scene import Scene
from rbmed_datasets.brainsim.signal import SEQUENCES
from robustbench_med import Split

#: Where lesions are divided by size, mm, and by contrast.
EDGES = {"radius": [6.0, 8.0, 12.0, 18.0], "contrast": [0.1, 0.15, 0.2, 0.25]}


def nuisance_table(data: Simulated, name: str, split: Split) -> np.ndarray:
    """Sequence (one column each), slice, scale and mean intensity of every image, (N, 8)."""
    scenes = (Scene(data.params, patient) for patient in sampling.patients(data.params, name))
    rows = [
        [*(scene.sequence.name == key for key in SEQUENCES), *scene.anatomy.scale, level]
        for scene in scenes
        for level in scene.anatomy.levels
    ]
    return np.column_stack([np.array(rows, dtype=np.float64), split.images.mean(dim=(1, 2, 3)).numpy()])


def check_nuisance(data: Simulated, splits: dict[str, Split]) -> None:
    x = np.concatenate([nuisance_table(data, name, split) for name, split in splits.items()])
    y = np.concatenate([split.labels.numpy() for split in splits.values()])
    patients = np.concatenate([split.patients for split in splits.values()])
    sites = np.concatenate([split.sites for split in splits.values()])
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")),
        "boosting": HistGradientBoostingClassifier(
            max_iter=80, max_leaf_nodes=8, class_weight="balanced", random_state=0
        ),
    }
    for kind, model in models.items():
        scores = {}
        for site in np.unique(sites):
            rows = sites == site
            guess = cross_val_predict(model, x[rows], y[rows], groups=patients[rows], cv=GroupKFold(5))
            scores[str(site)] = balanced_accuracy_score(y[rows], guess)
        shown = ", ".join(f"{site} {score:.3f}" for site, score in scores.items())
        print(f"nuisance only, {kind}: balanced accuracy {np.mean(list(scores.values())):.3f} ({shown})")


def augment(images: Tensor, noise: float, rng: torch.Generator) -> Tensor:
    """Flips and shifts of up to 3 px, the same for the batch, and Gaussian noise."""
    flip, dy, dx = (int(torch.randint(*bounds, (), generator=rng)) for bounds in ((0, 2), (-3, 4), (-3, 4)))
    images = torch.roll(images.flip(-1) if flip else images, (dy, dx), (2, 3))
    return images + noise * torch.randn(images.shape, generator=rng)


def train(split: Split, epochs: int, noise: float, seed: int, batch: int = 64) -> nn.Module:
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = ResNet(BasicBlock, [1, 1, 1, 1], channels=(32, 64, 128, 256), in_chans=1, num_classes=2)
    steps = len(split) // batch
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        order = torch.randperm(len(split), generator=rng)
        for rows in order[: steps * batch].split(batch):
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(augment(split.images[rows], noise, rng) * 4 - 1)
            loss = F.cross_entropy(logits.float(), split.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss of the last batch {loss.item():.3f}", flush=True)
    return net.eval()


def check_classifier(net: nn.Module, name: str, split: Split, noise: float) -> None:
    rng = torch.Generator().manual_seed(1)
    images = split.images + noise * torch.randn(split.images.shape, generator=rng)
    with torch.no_grad():
        guess = torch.cat([net(part * 4 - 1).argmax(1) for part in images.split(256)])
    right = (guess == split.labels).float()
    sites = {site: np.array([s == site for s in split.sites]) for site in sorted(set(split.sites))}
    shown = ", ".join(f"{site} {right[torch.from_numpy(rows)].mean():.4f}" for site, rows in sites.items())
    sick = split.labels == 1
    print(f"{name}: accuracy {right.mean():.4f} ({shown})")
    print(f"{name}: sensitivity {right[sick].mean():.4f}, specificity {right[~sick].mean():.4f}")
    for lesion, edges in EDGES.items():
        if lesion in split.lesions:
            bins = torch.bucketize(split.lesions[lesion][sick], torch.tensor(edges))
            found = [right[sick][bins == k] for k in range(len(edges) + 1)]
            rows = [f"{part.mean():.3f} ({len(part)})" for part in found if len(part)]
            print(f"{name}: sensitivity by {lesion}, divided at {edges}: {', '.join(rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=["brainsim", "brainsim2"], default="brainsim")
    parser.add_argument("--split", choices=["calibration", "test"], default="calibration")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of noise, training and evaluation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kind = {"brainsim": BrainSim, "brainsim2": BrainSim2}[options.dataset]
    data = kind(kind.Params(size=options.size))
    splits = {name: data.split(name) for name in ("train", options.split)}
    for name, split in splits.items():
        shares = ", ".join(f"{site} {part.labels.float().mean():.2f}" for site, part in split.by_site().items())
        print(f"{name}: {len(split)} images, share with a tumour: {shares}")
    check_nuisance(data, splits)
    net = train(splits["train"], options.epochs, options.noise, options.seed)
    check_classifier(net, options.split, splits[options.split], options.noise)


if __name__ == "__main__":
    main()
