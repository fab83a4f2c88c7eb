"""Wall time and peak memory of the README's main job, from an empty cache as on a fresh machine.

python benchmarks/main_job.py [--runs 3] [-- further options of rbmed run]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    args, options = parser.parse_known_args()
    command = [sys.executable, "-m", "robustbench_med", "run", "--defense", "medfedpure", "--attack", "apgd"]
    for number in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run(
                [*command, *(option for option in options if option != "--"), "--out", folder],
                env={**os.environ, "RBMED_HOME": folder},
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            seconds = time.perf_counter() - start
        # The largest child so far: a later run can only repeat or raise it.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"run {number + 1}: {seconds:.1f} s, peak memory of a process {peak:.2f} GiB")


if __name__ == "__main__":
    main()
