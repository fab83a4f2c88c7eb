"""A board made by hand, with everything that the page can show: ties, claims, marks, clients, a row without a rank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.build import write
from robustbench_med.leaderboard.entry import Claim, Entry, Figure, Mark, Paper, RungFigure
from robustbench_med.leaderboard.ranking.answers import Answers
from robustbench_med.leaderboard.render.page.site import pages
from robustbench_med.leaderboard.render.studies.all import to_csv
from robustbench_med.leaderboard.render.studies.view import Study
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record

CLIENTS = ("hospital-1", "hospital-2")


def share(value: float, width: float = 0.1) -> Figure:
    return Figure(value, max(0.0, value - width), min(1.0, value + width), (value,))


def record(cell: str = "abc123", **changes: Any) -> Record:
    facts: dict[str, Any] = {
        "cell_id": cell,
        "status": "ok",
        "role": "cell",
        "dataset": {
            "name": "brainsim",
            "params_passed": {},
            "synthetic": True,
            "digest": "d1",
            "licence": "Apache-2.0",
            "classes": ["no tumour", "tumour"],
            "asked": {"dataset": "brainsim"},
        },
        "defense": {"name": "medfedpure", "params_passed": {"fpr": 0.05}, "weights": {"digest": "w1", "seed": 0}},
        "attack": {"name": "ladder", "params_passed": {"preset": "quick"}, "asked": {"access": "ladder"}},
        "threat": {"norm": "linf", "eps": 4 / 255, "access": "ladder", "goal": "untargeted"},
        "eot": 4,
        "draws": 2,
        "seed": 0,
        "limit": 64,
        "clients": list(CLIENTS),
        "n": 64,
        "metrics": {"clean_sensitivity": 0.9, "clean_specificity": 0.95, "detector_tpr_at_1": 0.2},
        "intervals": {"clean_sensitivity": [0.8, 0.96]},
        "seconds": 12.5,
        "provenance": {"commit": "c0ffee", "device": "cpu", "versions": {"python": "3.11"}, "hardware": {"threads": 2}},
        "created": "2026-11-22T10:00:00+00:00",
    }
    return Record.model_validate(facts | changes)


def outcome(cell: str = "abc123") -> ImageResults:
    """Eight images, two draws; one abstention; a ROC curve."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=np.int8)
    clean = np.stack([labels, labels])
    attacked = np.array([[0, 1, 1, 0, 1, 0, -1, 1], [0, 1, 1, 0, 1, 0, 0, 1]], dtype=np.int8)
    return ImageResults(cell, tuple(range(8)), labels, clean, attacked, ((0.05, 0.4), (0.2, 0.8)))


def entry(name: str = "medfedpure", worst: float = 0.5, claim: float = 0.9, **changes: Any) -> Entry:
    rungs = (
        RungFigure("oblivious apgd", "oblivious", claim, 60, 4, 100, 101),
        RungFigure("full apgd:steps=10", "full", worst, 50, 20, 20, 22),
        RungFigure("query square", "query", None, reason="the budget was spent"),
    )
    facts: dict[str, Any] = {
        "id": f"brainsim-linf-4-255.{name}",
        "system": name,
        "ranked": True,
        "rank": 1,
        "defense": name,
        "defense_name": name,
        "strategy": "fedmoe",
        "strategy_full": "fedmoe:rounds=8",
        "model": "moe",
        "architecture": "Mixture of experts",
        "track": "randomized test-time",
        "ladder": "ladder:quick",
        "images": 64,
        "clients": CLIENTS,
        "clean": share(0.95, 0.03),
        "worst": share(worst),
        "claim": share(claim),
        "claim_attack": "apgd",
        "claim_images": 64,
        "drop": claim - worst,
        "rungs": rungs,
        "sensitivity": share(0.4),
        "specificity": share(0.6),
        "hidden_lesion": share(0.6),
        "fake_lesion": share(0.4),
        "fpr": share(0.05, 0.02),
        "tpr": share(0.4),
        "auroc": Figure(0.812),
        "worst_client": "hospital-2",
        "worst_client_accuracy": share(worst - 0.05),
        "per_client": {client: {"clean": share(0.95), "worst": share(worst)} for client in CLIENTS},
        "gradients": 145.0,
        "queries": 162.0,
        "ms": 4000.0,
        "parameters": 1_234_567,
        "train_seeds": (0,),
        "seeds": (0,),
        "draws": 2,
        "date": "2026-11-22",
        "records": (record(),),
        "outcomes": (outcome(),),
        "answers": (Answers.of(outcome()),),
    }
    return Entry(**facts | changes)


def board(*entries: Entry, eps: int = 4, unranked: tuple[Entry, ...] = (), claims: tuple[Claim, ...] = ()) -> Board:
    key = f"brainsim-linf-{eps}-255"
    section = Section(f"{key}.randomized", "randomized test-time", "ladder:quick", 64, CLIENTS, entries)
    return Board(
        id=key,
        dataset="brainsim",
        digest="d1",
        options="",
        partition="",
        synthetic=True,
        licence="Apache-2.0",
        norm="linf",
        eps=eps / 255,
        eps_text=f"{eps}/255",
        goal="untargeted",
        sections=(section,) if entries else (),
        unranked=unranked,
        claims=claims,
    )


def build(made: Sequence[Board], folder: Path, studies: Sequence[Study] = ()) -> None:
    """Write the page of these boards, and of what is shown beside them."""
    files = {name: make() for name, make in pages(made, folder / "gallery", studies=studies)}
    write(folder, files | {f"studies/{study.id}.csv": to_csv(study) for study in studies})


def full() -> list[Board]:
    """Two boards, at two eps, with one of everything."""
    claim = Claim(
        "MedFedPure",
        "Br35H",
        "PGD",
        0.9767,
        0.8733,
        "Example et al. 2025",
        "https://example.org/paper",
        "with the authors' own data",
        "medfedpure",
    )
    first = entry(
        marks=(Mark("blind-detector", "the detector does not distinguish attacked images from clean ones"),),
        claims=(claim,),
        paper=Paper("Example et al. 2025", "https://example.org/paper"),
    )
    second = entry("shielded:detector=lid", 0.45, 0.6, rank=2, tied=1, records=(record("def456"),))
    old = record("aaa111", dataset={"name": "brainsim", "params_passed": {}, "synthetic": True})
    third = entry(
        "undefended",
        0.1,
        0.1,
        rank=3,
        drop=None,
        fpr=None,
        tpr=None,
        auroc=None,
        rungs=(),
        outcomes=(None,),
        records=(old,),
    )
    lost = entry("half-done", ranked=False, rank=None, why_not="the ladder is incomplete: no rung full", worst=0.3)
    wide = replace(first, id="brainsim-linf-8-255.medfedpure", worst=share(0.2), claims=(), marks=())
    return [board(first, second, third, unranked=(lost,), claims=(claim,)), board(wide, eps=8)]


def gallery(folder: Path, row: str = "brainsim-linf-4-255.medfedpure", **changes: object) -> Path:
    """The pictures of a row, one image of which nothing can be seen; ``changes`` are of what is said of it."""
    place = folder / "gallery" / row
    place.mkdir(parents=True, exist_ok=True)
    (place / "1.png").write_bytes(b"picture")
    facts: dict[str, object] = {
        "file": "1.png",
        "width": 320,
        "height": 64,
        "withstood": False,
        "client": "<b>hospital-1</b>",
        "truth": "tumour",
        "threshold": 0.25,
        "before": {"answer": "tumour", "alone": "tumour", "score": 1e-9, "flagged": False, "purified": False},
        "after": {"answer": "tumour", "alone": "no tumour", "score": 0.5, "flagged": True, "purified": True},
        "alt": "five pictures",
    }
    manifest = {"told": "Attacked by apgd.", "columns": ["clean", "attacked"], "examples": [facts | changes]}
    (place / "gallery.json").write_text(json.dumps(manifest))
    return place
