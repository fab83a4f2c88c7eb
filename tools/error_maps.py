"""Draw what detectors see: images before and after an attack, error maps, and scores beside the threshold.

    python tools/error_maps.py --defense medfedpure --defense medfedpure:detector=diffusion-error [--images 2]

The images are calibration images; test images are not touched. A detector without an error map shows its scores alone.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med import without_shared_params
from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import TargetSettings
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.plugins.components import create
from robustbench_med.plugins.registry import Registry
from robustbench_med.training import image_grid

COLUMNS = ("clean", "attacked", "difference x 10", "error map, clean", "error map, attacked")


@dataclass(frozen=True)
class Seen:
    """One image, clean and attacked, and what a client's detector makes of the two.

    Attributes:
        client: the client.
        images: (2, C, H, W).
        truth: its label.
        labels: (2,), what the classifier answers.
        scores: (2,).
        threshold: scores above it are flagged.
        errors: (2, H, W), or None for a detector that cannot say where.
    """

    client: str
    images: Tensor
    truth: int
    labels: list[int]
    scores: list[float]
    threshold: float
    errors: Tensor | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--defense", action="append", required=True)
    parser.add_argument("--dataset", default="brainsim")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--attack", default="apgd:steps=40")
    parser.add_argument("--access", default="oblivious")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("error-maps.png"))
    args = parser.parse_args()

    registry = Registry()
    dataset = rbmed.load_dataset(args.dataset, data_root=args.data_root, registry=registry)
    card, split = dataset.card(), dataset.split("calibration")
    attack = create(registry, "attack", args.attack)
    rows: list[tuple[str, image_grid.Tiles]] = []
    notes: list[list[str]] = []
    for name, short in zip(args.defense, without_shared_params(args.defense)[0], strict=True):
        deployment = rbmed.load_defense(name, dataset, device="cpu", weights=args.weights, registry=registry)
        seen = [
            look(deployment.pipeline(split.sites[row]), split.select(torch.tensor([row])), row, attack, args.access)
            for row in rows_to_evaluate(split, deployment.artifact.clients, args.images).tolist()
        ]
        rows += drawn(short.replace(":", ": ").replace(",", ", "), seen)
        notes += [noted(each, card.classes) for each in seen]
    where = f"{card.name}{' (synthetic)' * card.synthetic}"
    title = f"{where}, {args.attack} {args.access}, Linf 4/255; under the maps: score and threshold"
    image_grid.write(args.out, rows, [(column, 1) for column in COLUMNS], title, notes)
    with Image.open(args.out) as picture:
        small = picture.quantize(128, dither=Image.Dither.NONE)
    small.save(args.out, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB")


def look(pipeline: Pipeline, split: rbmed.Split, row: int, attack: rbmed.Attack, access: str) -> Seen:
    """Attack one image and ask the detector about both."""
    if pipeline.detector is None or pipeline.gate is None:
        raise SystemExit("error: this defense has no detector")
    x, y, ids, threat = split.images, split.labels, torch.tensor([row]), ThreatModel()
    settings = TargetSettings(pipeline=pipeline, counter=QueryCounter(x, y, threat, Budget()), eot=2)
    ladder = target_for(settings, access, Stream.named("defense-under-attack", 0, ids))
    x_adv = attack.run(ladder, x.clone(), y, threat, Budget(), Stream.named("attack", 0, ids))
    both = torch.cat([x, threat.project(x_adv.detach(), x)])
    rng = Stream.named("scoring", 0, ids.expand(2))
    system = rbmed.System(pipeline.classifier, pipeline.purifier)
    with torch.no_grad():
        scores = pipeline.score(both, rng[:])
        errors = pipeline.detector.error_map(both, system, rng.fork("detector"))
        labels = pipeline.classifier(both).argmax(1)
    return Seen(split.sites[0], both, int(y), labels.tolist(), scores.tolist(), pipeline.gate.threshold, errors)


def drawn(name: str, seen: list[Seen]) -> list[tuple[str, image_grid.Tiles]]:
    """A row of tiles for each image; all error maps of a defense have one scale."""
    maps = [each.errors for each in seen if each.errors is not None]
    high = float(torch.quantile(torch.cat(maps).flatten(), 0.995)) if maps else 1.0
    rows = []
    for each in seen:
        difference = image_grid.grey(10 * (each.images[1:] - each.images[:1]), -0.5, 0.5)
        errors = (
            image_grid.blank(2, each.images.shape[-1]) if each.errors is None else image_grid.heat(each.errors, high)
        )
        tiles = np.concatenate([image_grid.grey(each.images, 0, 1), difference, errors])
        rows.append((f"{name}\n{each.client}", tiles))
    return rows


def noted(each: Seen, classes: tuple[str, ...]) -> list[str]:
    """What stands under the tiles: answers, and scores beside the threshold."""
    answers = [classes[label] + (" (wrong)" if label != each.truth else "") for label in each.labels]
    scores = [f"{score:.3g} {'>' if score > each.threshold else '<='} {each.threshold:.3g}" for score in each.scores]
    return [*answers, "", *scores]


if __name__ == "__main__":
    main()
