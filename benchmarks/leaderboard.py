"""How long a leaderboard of many records takes: reading, ranking, and writing every format.

    python benchmarks/leaderboard.py --records 10000

The records are copies of the committed ladders with other names, seeds and eps, each with the outcome of its images;
goal: 10 s for 10,000.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustbench_med.leaderboard.build import rendered, write
from robustbench_med.leaderboard.sources.folder import no_collection, read_sources
from robustbench_med.leaderboard.sources.image_results import dumped, read

ROOT = Path(__file__).parents[1] / "leaderboard"
EPS = (2, 4, 8)


def make(root: Path, count: int) -> None:
    """A leaderboard of ``count`` records, three seeds a row, over three eps."""
    rng = random.Random(0)
    name = "leaderboard-brainsim-standard.jsonl"
    models = [json.loads(line) for line in (ROOT / "records" / name).read_text().splitlines()]
    kept = {outcome.cell_id: outcome for outcome in read(ROOT / "outcomes" / name)}
    (root / "records").mkdir()
    (root / "outcomes").mkdir()
    with (root / "records" / name).open("w") as records, (root / "outcomes" / name).open("w") as outcomes:
        facts: dict[str, Any] = {}
        for at in range(count):
            facts = facts if at % 3 else rng.choice(models)
            outcome = replace(kept[facts["cell_id"]], cell_id=f"{at:016x}")
            row = at // 3
            defense = facts["defense"] | {"name": f"{facts['defense']['name']}-{row}"}
            defense["weights"] = defense["weights"] | {"seed": at % 3, "digest": f"{at:x}"}
            threat = facts["threat"] | {"eps": EPS[row % len(EPS)] / 255}
            made = facts | {"cell_id": outcome.cell_id, "defense": defense, "threat": threat}
            records.write(json.dumps(made) + "\n")
            outcomes.write(dumped(outcome) + "\n")


def now() -> tuple[float, float, float]:
    """Time of the clock, and of the processor: of this process, and of its forks."""
    used = os.times()
    return time.perf_counter(), used.user + used.system, used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder, no_collection():  # as the command does
        root = Path(folder)
        make(root, count)
        clocks = [now()]
        sources = read_sources(root)
        clocks.append(now())
        boards = sources.boards()
        clocks.append(now())
        files = rendered(sources)
        clocks.append(now())
        write(root, files)
        clocks.append(now())
    rows = [entry for board in boards for entry in board.entries]
    placed = sum(entry.ranked for entry in rows)
    print(
        f"{count} records, {len(rows)} rows, {placed} with a rank, {sum(map(len, files.values())) / 1e6:.1f} MB written"
    )
    for what, before, after in zip(("read", "rank", "rank and write", "to disk"), clocks, clocks[1:], strict=False):
        wall, own, forks = (b - a for a, b in zip(before, after, strict=True))
        print(f"{what:<16} {wall:6.2f} s, of the processor {own:6.2f} s here and {forks:6.2f} s in forks")


if __name__ == "__main__":
    main()
