"""Cells as tasks of a Slurm job array, which share the output folder.

Each task is a run of its own: it locks the cells that it measures, so that the tasks divide the work, and continues a
cell after its last chunk. A task that was preempted or requeued thus goes on where it stopped, and the run that
submitted the array may end; asked again, it finds the array. Nothing is sent over the network. Slurm requeues by itself
(``sbatch --requeue``), since compute nodes often cannot talk to its controller.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from robustbench_med.errors import HarnessError, UsageError
from robustbench_med.files.atomic import write_text
from robustbench_med.runner.executors.config import OnSlurm
from robustbench_med.runner.executors.request import Request
from robustbench_med.runner.messages import Done, Job, Message

#: In the output folder: the request, the array that was submitted, and logs.
FOLDER = "slurm"
#: Seconds between two questions to Slurm.
POLL = 2.0
#: Seconds after which a question to Slurm counts as unanswered.
PATIENCE = 60.0
#: Why a cell of an array that has ended has no record.
MISSING = "NotMeasured: the tasks of the Slurm array ended first; run the command again to continue"


class SlurmExecutor:
    """Submits an array, waits for its end, and reports the cells that it did not measure.

    Args:
        params: of the executor.
        request: the run, as its tasks repeat it.
    """

    def __init__(self, params: OnSlurm, request: Request) -> None:
        for program in ("sbatch", "squeue"):
            if shutil.which(program) is None:
                raise UsageError(f"--executor slurm needs {program}, which is not on this machine; use a login node")
        self.params, self.request = params, request
        self.folder = request.config.out.absolute() / FOLDER
        if "%" in str(self.folder):
            raise UsageError(f"Slurm reads a % in a path as a pattern; choose another --out than {self.folder}")

    def ahead(self) -> Iterator[str]:
        """Submit the array, or find the one that was submitted, and wait for its end; yields what is going on."""
        job = self._submitted()
        if job is None:
            job = self._submit()
            yield f"Slurm array {job}: {self.params.tasks} tasks submitted, logs in {self.folder / 'logs'}"
        else:
            yield f"Slurm array {job} was submitted before; waiting for it"
        last = ""
        while states := _states(job):
            said = ", ".join(f"{states.count(state)} {state.lower()}" for state in dict.fromkeys(states))
            if said != last:
                yield f"Slurm array {job}: {said}"
            last = said
            time.sleep(POLL)
        yield f"Slurm array {job} has ended"

    def run(self, jobs: Iterator[Job | None]) -> Iterator[tuple[Job, Message]]:
        """See `Executor`; what still has no record was not measured."""
        for job in jobs:
            if job is None:
                time.sleep(POLL)
            else:
                yield job, Done(status="failed", reason=MISSING, keep=True)

    def _submitted(self) -> str | None:
        """The array that was submitted for the same request and has not ended."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads((self.folder / "array.json").read_text(encoding="utf-8"))
            same = (self.folder / "request.json").read_text(encoding="utf-8") == self.request.dumped()
            job = str(facts["job"])
            if same and job.isdigit() and _states(job):
                return job
        return None

    def _submit(self) -> str:
        self.request.write(self.folder / "request.json")
        (self.folder / "logs").mkdir(exist_ok=True)
        p = self.params
        options = {
            "job-name": "rbmed",
            "array": f"0-{p.tasks - 1}",
            "cpus-per-task": p.cpus,
            "gpus-per-task" if p.gpus else "": p.gpus,
            "partition": p.partition,
            "account": p.account,
            "qos": p.qos,
            "time": p.time,
            "mem": p.memory,
            "output": f"{self.folder}/logs/task-%a.log",
            "open-mode": "append",
            "export": "ALL",
            "chdir": str(Path.cwd()),
        }
        given = [f"--{name}={value}" for name, value in options.items() if name and value not in (None, "")]
        module = "robustbench_med.runner.executors.slurm_task"
        task = shlex.join([sys.executable, "-m", module, str(self.folder), str(p.cpus)])
        command = ["sbatch", "--parsable", "--requeue", *given, f"--wrap=exec {task}"]
        done = _asked_slurm(command)
        job = done.stdout.strip().partition(";")[0]
        if done.returncode or not job.isdigit():
            reason = " ".join((done.stderr or done.stdout).split())
            raise UsageError(f"Slurm refuses the array (--executor slurm:...): {reason[:300]}")
        write_text(self.folder / "array.json", json.dumps({"job": job, "tasks": p.tasks}))
        return job


def _states(job: str) -> list[str]:
    """The states of the tasks that have not ended, such as ``PENDING``; empty where all have.

    Raises:
        HarnessError: Slurm does not answer; the array goes on, and the command may be run again.
    """
    reason = ""
    for _ in range(5):
        done = _asked_slurm(["squeue", "--noheader", "--array", f"--jobs={job}", "--format=%T"])
        if done.returncode == 0:
            return done.stdout.split()
        if "Invalid job id" in done.stderr:  # it ended so long ago that Slurm has forgotten it
            return []
        reason = " ".join(done.stderr.split())[:200]
        time.sleep(POLL)
    raise HarnessError(f"Slurm does not say what became of array {job}: {reason}; run the command again to wait for it")


def _asked_slurm(command: list[str]) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SBATCH_", "SQUEUE_"))}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
