"""How long `rbmed table` and `rbmed export` take for many records, and how much memory.

    python benchmarks/table.py --records 20000

The records are copies of the committed ones with other names and seeds, each command runs in a process of its own;
goal: 15 s and 500 MiB for 20,000.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECORDS = Path(__file__).parents[1] / "leaderboard" / "records"
COMMANDS = (
    *(["table"], ["table", "--report", "csv"], ["table", "--report", "markdown"], ["export"]),
    ["export", "--format", "json"],
)


def make(file: Path, count: int) -> None:
    """A file of ``count`` records, three seeds each."""
    rng = random.Random(0)
    models = [line for path in sorted(RECORDS.glob("*.jsonl")) for line in path.read_text().splitlines()]
    with file.open("w") as records:
        facts = {}
        for at in range(count):
            facts = facts if at % 3 else json.loads(rng.choice(models))
            defense = facts["defense"] | {"name": f"{facts['defense']['name']}-{at // 3}"}
            defense["weights"] = defense["weights"] | {"seed": at % 3, "digest": f"{at:x}"}
            records.write(json.dumps(facts | {"cell_id": f"{at:016x}", "defense": defense}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records.jsonl"
        make(file, count)
        print(f"{count} records, {file.stat().st_size / 1e6:.0f} MB")
        for command, *options in COMMANDS:
            start = time.perf_counter()
            words = [sys.executable, "-m", "robustbench_med", command, str(file), *options]
            with (Path(folder) / "out").open("wb") as out, subprocess.Popen(words, stdout=out, stderr=out) as process:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0, (Path(folder) / "out").read_text()[-500:]
            wall, cpu, memory = time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
            named = " ".join([command, *options])
            print(f"{named:<24} {wall:6.1f} s, of the processor {cpu:6.1f} s, {memory:5.0f} MiB")


if __name__ == "__main__":
    main()
