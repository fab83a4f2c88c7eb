"""A small leaderboard folder with everything that its tables can show."""

from __future__ import annotations

from pathlib import Path

from helpers.records import ladder_record, outcome, plain
from robustbench_med.leaderboard.sources.image_results import dumped
from robustbench_med.records.record import Record
from robustbench_med.records.record import dumped as dumped_record

CLAIMS = """\
[[claim]]
name = "Guard"
dataset = "d"
attack = "PGD"
clean = 97.67
robust = 87.33
source = "Someone 2025"
url = "https://example.org/guard"
defense = "guarded"

[paper.defense.guarded]
text = "Someone 2025, arXiv 2501.00001"
url = "https://arxiv.org/abs/2501.00001"
"""


def folder(root: Path, *records: Record, claims: str = "", outcomes: str = "") -> Path:
    for name, text in (
        ("records/a.jsonl", "".join(f"{dumped_record(record)}\n" for record in records)),
        ("outcomes/a.jsonl", outcomes),
        ("claims.toml", claims),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def example(root: Path) -> Path:
    """A board with ranks, a tie, a mark, a claim, several seeds and a row without rank."""
    rows = {
        "0": [True] * 15 + [False],
        "1": [True] * 14 + [False] * 2,
        "2": [True] * 13 + [False] * 3,
        "3": [False] * 16,
    }
    records = [
        ladder_record("0", rows["0"], name="guarded"),
        ladder_record("1", rows["1"], name="guarded", seed=1),
        ladder_record("2", rows["2"], name="held"),
        ladder_record("3", rows["3"], name="bare", diagnostics={"level": "cheap", "flags": ["large-logits"]}),
        plain("4", rows["0"], name="guarded"),
        plain("5", rows["0"], name="guarded", seed=1),
        plain("6", rows["2"], name="other"),
    ]
    texts = [dumped(outcome(cell, rows[cell])) for cell in rows]
    return folder(root, *records, claims=CLAIMS, outcomes="\n".join(texts))
