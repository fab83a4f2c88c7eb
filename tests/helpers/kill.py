"""Kill -9 at random moments over a small grid, resume, and compare with an undisturbed run.

After every resumption records and samples must be those of the undisturbed run, to the byte but for time and memory,
and no kill may cost more than the one chunk that was being worked on. Some attempts run two processes on one folder.
Only kills that met a cell in progress are counted: such a cell's lock is left behind.

python tests/helpers/kill.py [--count 100] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

# One thread: a forked process has none but the one that forked.
os.environ["OMP_NUM_THREADS"] = "1"

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script

import pandas as pd

from helpers.grids import lines, run, trained
from robustbench_med.plugins.registry import Registry


class Grid:
    """A grid over the toys; attempts at it count the calls of its attack in a file.

    Args:
        registry: with the toys.
        folder: holds the results of every attempt.
    """

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry, self.folder, self.calls = registry, folder, folder / "calls"

    def measure(self, out: Path) -> None:
        """Run the grid, or what is left of it."""
        attack = f"faulty:seconds=0.02,file={self.calls}"
        # With one draw a chunk is attacked in one call.
        run(self.registry, out, attack=attack, seed=[0, 1], access=["oblivious", "full", "query"], eot=1)

    def start(self, out: Path) -> int:
        """The same in a process of its own; returns its id."""
        child = os.fork()
        if child:
            return child
        try:
            self.measure(out)
            os._exit(0)
        finally:
            os._exit(1)

    def counted(self) -> int:
        """Calls since the last count."""
        calls = len(self.calls.read_text()) if self.calls.exists() else 0
        self.calls.unlink(missing_ok=True)
        return calls


def samples(out: Path) -> dict[str, pd.DataFrame]:
    return {path.name: pd.read_parquet(path) for path in sorted((out / "samples").glob("*.parquet"))}


def compare(out: Path, whole: Path) -> None:
    found, wanted = lines(out), lines(whole)
    assert set(found) == set(wanted), "records differ from those of the undisturbed run"
    ok = [line for line in found if '"status": "ok"' in line]
    assert len(ok) == len(set(ok)), "a cell was recorded twice"
    a, b = samples(out), samples(whole)
    assert a.keys() == b.keys(), "other cells have samples"
    for name in a:
        pd.testing.assert_frame_equal(a[name], b[name])
    assert not (out / "partial").exists(), "checkpoints were left behind"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="kills in the middle of a cell")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RBMED_HOME"] = str(folder / "home")
        grid = Grid(trained(), folder)
        grid.measure(folder / "warm")  # imports, and what is shared
        grid.counted()
        start = time.monotonic()
        grid.measure(folder / "whole")
        seconds, calls = time.monotonic() - start, grid.counted()
        kills, inside, rounds, most = 0, 0, 0, 0
        while inside < args.count:
            out, lost, longest = folder / f"round-{rounds}", 0, seconds
            while True:
                children = [grid.start(out) for _ in range(chance.choice([1, 1, 2]))]
                time.sleep(chance.uniform(0, longest))
                longest *= 1.1  # the machine may have become slower
                codes = []
                for child in children:
                    os.kill(child, signal.SIGKILL)
                    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                assert set(codes) <= {0, -signal.SIGKILL}, f"an attempt failed by itself: {codes}"
                lost += (killed := sum(code != 0 for code in codes))
                inside += min(killed, sum(1 for _ in (out / "partial").glob("*.lock")))
                if 0 in codes:
                    break
            grid.measure(out)  # finds everything done, and tidies up
            spent = grid.counted() - calls
            compare(out, folder / "whole")
            assert spent <= lost, f"{lost} kills cost {spent} chunks"
            kills, rounds, most = kills + lost, rounds + 1, max(most, lost)
        runs = f"{kills} kills, {inside} in a cell, in {rounds} runs (up to {most} in one) of {calls} chunks each"
        sys.stdout.write(f"{runs}: records and samples identical\n")


if __name__ == "__main__":
    main()
