"""Attack defenses on *calibration* images: how defaults are chosen without a look at test images.

    python tools/on_calibration.py                                     # the scores of medfedpure's detector
    python tools/on_calibration.py medfedpure "shielded:jpeg" --rung oblivious --rung full --steps 20 --eot 4
    python tools/on_calibration.py ... --dataset lgg --data-root FOLDER --limit 96 --train

The gate of each defense is fixed on all clean calibration images of a client; some of these are then attacked, from
each rung in turn, and an image that one has broken stays broken. "robust" is what is left after the last rung, on fresh
noise. Calibration images fix the thresholds too, so the share of clean images that is flagged is what was asked for.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import robustbench_med as rbmed
from robustbench_med.attacks.measure import measure
from robustbench_med.attacks.rung import Rung, RungRef, resolve_rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import ACCESS
from robustbench_med.runtime.batching import find_device
from robustbench_med.training.loader import Loader

SCORES = (
    "medfedpure:score=reconstruction",
    "medfedpure:score=consistency,detector=[mae:reference=reconstruction]",
    "medfedpure:score=consistency,detector=[mae:reference=purified]",
    "medfedpure:score=combined,detector=[mae:reference=purified]",
    "medfedpure:detector=feature-squeezing",
    "medfedpure:detector=random",
    "medfedpure:detector=none",
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("defense", nargs="*", default=SCORES)
    parser.add_argument("--dataset", default="brainsim")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--limit", type=int, default=160, help="images")
    parser.add_argument("--rung", action="append", choices=ACCESS, help="default: oblivious")
    parser.add_argument("--steps", type=int, default=40, help="of APGD")
    parser.add_argument("--eot", type=int, default=1, help="noise draws in each gradient of a rung that sees noise")
    parser.add_argument("--draws", type=int, default=2, help="noise draws that score")
    parser.add_argument("--eps", type=float, default=4 / 255)
    parser.add_argument("--train", action="store_true", help="train what is missing")
    parser.add_argument("--seed", type=int, help="of the training")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    registry, device = Registry(), find_device(args.device)
    loader = Loader(registry, device, args.data_root, train=args.train)
    rungs = args.rung or ["oblivious"]
    columns = (
        "defense",
        "AUROC",
        "TPR at 5 % FPR",
        "flagged %",
        "clean %",
        *(f"{rung} %" for rung in rungs),
        "robust %",
    )
    table = Table(*columns, "seconds", title=f"{args.dataset}: attacked calibration images")
    for name in args.defense:
        start = time.perf_counter()
        deployment = loader.deployment(TrainedRef(parse(name), parse(args.dataset), seed=args.seed))
        card, split = deployment.dataset.card(), deployment.dataset.split("calibration")
        attacks = [_rung(registry, rung, args) for rung in rungs]
        settings = EvaluationSettings(
            threat=rbmed.ThreatModel(eps=args.eps),
            rungs=attacks,
            num_classes=len(card.classes),
            lesion_class=card.lesion_class,
            device=device,
            draws=args.draws,
        )
        rows = rows_to_evaluate(split, deployment.artifact.clients, args.limit)
        parts = []
        for client in deployment.artifact.clients:
            own = rows[torch.tensor([split.sites[row] == client for row in rows.tolist()])]
            parts.append(measure(deployment.pipeline(client), split.select(own), own, settings))
        outcome = rbmed.Outcome.join(parts)
        figures = create(registry, "metric", "detection").compute(outcome)
        right, safe = outcome.clean.correct(outcome.labels), outcome.attacked.robust(outcome.labels)
        table.add_row(
            name.replace("[", "\\["),
            f"{figures['detector_auroc']:.3f}" if figures else "",
            f"{100 * figures['detector_tpr_at_5']:.1f}" if figures else "",
            f"{100 * outcome.attacked.flagged.float().mean():.1f}",
            f"{100 * right.float().mean():.1f}",
            *(f"{100 * result.robust.float().mean():.1f}" if len(rungs) > 1 else "" for result in outcome.rungs),
            f"{100 * safe.float().mean():.1f}",
            f"{time.perf_counter() - start:.0f}",
        )
        Console(width=170).print(table)


def _rung(registry: Registry, access: str, args: argparse.Namespace) -> Rung:
    """The attack from a rung: Square where only answers are seen."""
    attack = f"square:queries={10 * args.steps}" if access == "query" else f"apgd:steps={args.steps}"
    seen = access not in ("oblivious", "transfer", "query")
    return resolve_rung(registry, RungRef(access, parse(attack)), args.eot if seen else 1)


if __name__ == "__main__":
    main()
