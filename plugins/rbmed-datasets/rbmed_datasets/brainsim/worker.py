"""A rendering process: patients on standard input, arrays on standard output.

A separate, freshly started process inherits no threads or locks, works from a script without a ``__main__`` guard, and
does not import torch.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from queue import SimpleQueue

import numpy as np

from rbmed_datasets.brainsim.render import Rendered, render
from rbmed_datasets.brainsim.sampling import Common, Graded, Patient, Settings
from robustbench_med.errors import BadParameter

#: A patient and the label.
Job = tuple[Patient, int]
EDITIONS: dict[int, type[Common]] = {each.edition: each for each in (Settings, Graded)}

#: Least number of patients per process that is worth starting one.
MIN_JOBS = 12


def cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def render_all(settings: Common, jobs: Sequence[Job], workers: int | None = None) -> Iterator[tuple[int, Rendered]]:
    """Render every job; yields (position, images) in order of completion; they do not depend on ``workers``."""
    count = min(cpus() if workers is None else workers, len(jobs) // MIN_JOBS)
    if count < 2:
        for position, (patient, label) in enumerate(jobs):
            yield position, render(settings, patient, label)
        return
    results: SimpleQueue[tuple[int, Rendered] | None] = SimpleQueue()
    with ThreadPoolExecutor(count) as pool:
        shares = [range(start, len(jobs), count) for start in range(count)]
        threads = [pool.submit(_drive, settings, jobs, share, results) for share in shares]
        left = count
        while left:
            item = results.get()
            if item is None:
                left -= 1
            else:
                yield item
        for thread in threads:
            thread.result()


def _drive(
    settings: Common, jobs: Sequence[Job], share: range, results: SimpleQueue[tuple[int, Rendered] | None]
) -> None:
    """Feed one process its share of the jobs; always ends with None in ``results``."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **single, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", __name__]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
            try:
                for position in share:
                    results.put((position, _ask(process, settings, *jobs[position])))
            except BaseException:
                process.kill()
                raise
    finally:
        results.put(None)


def _ask(process: subprocess.Popen[bytes], settings: Common, patient: Patient, label: int) -> Rendered:
    """The arrays of one job, from a process.

    Raises:
        BadParameter: the settings are impossible.
        RuntimeError: the process ended early.
    """
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process was started without pipes")
    try:
        process.stdin.write(
            json.dumps([settings.edition, settings.model_dump(), asdict(patient), label]).encode() + b"\n"
        )
        process.stdin.flush()
        if problem := json.loads(process.stdout.readline()):
            raise BadParameter(problem)
        slices = settings.slices_in(patient.split)
        shape = (3, slices, settings.size, settings.size)
        images, masks, others = np.frombuffer(process.stdout.read(math.prod(shape)), dtype=np.uint8).reshape(shape)
        lesions = np.frombuffer(process.stdout.read(16 * slices)).reshape(2, slices)
    except (OSError, ValueError) as error:
        raise RuntimeError("brainsim: a rendering process ended early; its error is printed above") from error
    return Rendered(images, masks.astype(bool), others, lesions)


def main() -> None:
    """Answer every line with an error message or "" (JSON), then the arrays; until standard input closes."""
    out = sys.stdout.buffer
    for line in sys.stdin:
        edition, settings, patient, label = json.loads(line)
        try:
            images, masks, others, lesions = render(
                EDITIONS[edition].model_construct(**settings), Patient(**patient), label
            )
        except BadParameter as error:
            out.write(json.dumps(str(error)).encode() + b"\n")
        else:
            out.write(b'""\n')
            out.write(np.stack([images, masks, others]).tobytes())
            out.write(lesions.tobytes())
        out.flush()


if __name__ == "__main__":
    main()
