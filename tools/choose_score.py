"""Compare the detector's scores on attacked *calibration* images: how the default score of medfedpure was chosen.

    python tools/choose_score.py [--dataset brainsim] [--limit 160] [--data-root FOLDER]

Test images are not touched. The gate of each variant is fixed on all clean calibration images of a client; the attack
is oblivious APGD on some of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import robustbench_med as rbmed
from robustbench_med.components import create
from robustbench_med.measure import Setting, Step, measure
from robustbench_med.pick import pick
from robustbench_med.registry import Registry
from robustbench_med.threat import ThreatModel

VARIANTS = (
    "score=reconstruction",
    "score=consistency,detector=[mae:reference=reconstruction]",
    "score=consistency,detector=[mae:reference=purified]",
    "score=combined,detector=[mae:reference=purified]",
    "detector=random",
    "detector=none",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="brainsim")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--limit", type=int, default=160)
    parser.add_argument("--attack", default="apgd:steps=40")
    args = parser.parse_args()

    registry = Registry()
    dataset = rbmed.load_dataset(args.dataset, data_root=args.data_root, registry=registry)
    card, split = dataset.card(), dataset.split("calibration")
    setting = Setting(
        threat=ThreatModel(), steps=[Step(args.attack, "oblivious", create(registry, "attack", args.attack))],
        num_classes=len(card.classes), lesion_class=card.lesion_class, device=torch.device("cpu"), draws=2,
    )  # fmt: skip
    columns = ("variant", "AUROC", "TPR at 5 % FPR", "flagged", "clean %", "robust %")
    table = Table(*columns, title=f"{args.dataset}: attacked calibration images")
    for variant in VARIANTS:
        deployment = rbmed.load_defense(f"medfedpure:{variant}", dataset, device="cpu", registry=registry)
        rows = pick(split, deployment.artifact.clients, args.limit)
        parts = []
        for client in deployment.artifact.clients:
            own = rows[torch.tensor([split.sites[row] == client for row in rows.tolist()])]
            parts.append(measure(deployment.pipeline(client), split.select(own), own, setting))
        outcome = rbmed.Outcome.join(parts)
        figures = create(registry, "metric", "detection").compute(outcome)
        right, safe = outcome.clean.right(outcome.labels), outcome.attacked.safe(outcome.labels)
        table.add_row(
            variant.replace("[", "\\["),
            f"{figures['detector_auroc']:.3f}" if figures else "",
            f"{100 * figures['detector_tpr_at_5']:.1f}" if figures else "",
            f"{100 * outcome.attacked.flagged.float().mean():.1f}",
            f"{100 * right.float().mean():.1f}",
            f"{100 * safe.float().mean():.1f}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
