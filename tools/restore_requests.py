"""Give published records of formats before 4 the options of their run, and archive those that can never be verified.

    python tools/restore_requests.py [leaderboard]

Older records do not hold the options (`asked`) that `rbmed verify` needs. They hold the parameters that follow from
them, and the id of their cell, which is a hash of all that decides the numbers. So options are tried; where the cell
that is planned from them has the id of the record, they are those of its run, and they are added to the record. A
record whose id no options give was measured with other revisions of the code. It can never be run again, and goes to
``archive/`` with its per-image results.

Nothing is measured. A second run changes nothing.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustbench_med.errors import UsageError
from robustbench_med.files.atomic import write_text
from robustbench_med.grid.cell import Cell, Skip, cell_of
from robustbench_med.grid.config import build
from robustbench_med.grid.plan import plan
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record, parse
from robustbench_med.records.sections.attack import AttackOptions
from robustbench_med.records.sections.dataset import DatasetOptions

#: The first format that holds the options.
SINCE = 4


def options(record: Record) -> Iterator[dict[str, Any]]:
    """Options of a run that may have asked for this cell, the most likely first."""
    defense, attack, data = record.defense, record.attack, record.dataset
    known: dict[str, Any] = {
        "dataset": [{"name": data.name, **data.params_passed}],
        "partition": data.partition,
        "defense": [{"name": defense.name, **defense.params_passed}],
        "baseline": "",
        "norm": record.threat.norm,
        "eps": [record.threat.eps],
        "goal": record.threat.goal,
        "limit": record.limit,
        "seed": [record.seed],
        "draws": record.draws,
        "unseen_site": list(record.unseen),
        **{f"max_{name}": most for name, most in record.budget.limits.items()},
        **defense.replaced,
        **{name.replace("-", "_"): text for name, text in defense.asked.items()},
    }
    if attack.is_ladder:
        known |= {"access": [f"ladder:{attack.preset}"]} if record.role == "cell" else {"probe_limit": record.limit}
    else:
        known["attack"] = [{"name": attack.name, **attack.params_passed}]
        known |= {"access": [record.threat.access]} if record.role == "cell" else {"probe_limit": 1}
    seeds = [None] if defense.weights.seed is None else [None, [defense.weights.seed]]
    evasions = [None, "joint:1", "joint:0.1", "joint:10"] if record.threat.access == "gate" else [None]
    clients = [None] if record.unseen else [None, list(record.clients)]
    for seed, evasion, eot, named in itertools.product(
        seeds, evasions, dict.fromkeys([4, record.eot, 1, 2, 8, 16]), clients
    ):
        tried = {**known, "evasion": evasion, "eot": eot, "client": named}
        tried.setdefault("train_seed", seed)
        yield {name: value for name, value in tried.items() if value not in (None, [])}


def ids(cell: Cell, record: Record) -> Iterator[str]:
    """Ids that the run may have given the cell: without the rung transfer where the surrogate is the defense itself."""
    data, weights = str(record.dataset.digest), str(record.defense.weights.digest)
    yield cell.id(data, weights, record.surrogate.digest if record.surrogate else "")
    without = cell.without("transfer", "")
    if not isinstance(without, Skip):
        yield without.id(data, weights)


def cell_of_record(record: Record, registry: Registry) -> Cell | None:
    """The cell of the record, planned from options that give its id; None where none do."""
    for tried in options(record):
        try:
            cells = [cell_of(planned) for planned in plan(build({**tried, "device": "cpu"}), registry)]
        except UsageError:
            return None
        for cell in cells:
            if cell.role == record.role and record.cell_id in ids(cell, record):
                return cell
    return None


def restored(line: str, registry: Registry) -> str | None:
    """The line with the options of its run; None where they cannot be found."""
    facts, record = json.loads(line), parse(line)
    if facts["schema_version"] >= SINCE or record.attack.asked is not None:
        return line
    cell = cell_of_record(record, registry)
    if cell is None:
        return None
    facts["schema_version"] = SINCE
    facts["dataset"]["asked"] = DatasetOptions.of(cell).model_dump()
    facts["attack"]["asked"] = AttackOptions.of(cell, "float32", {}).model_dump()
    if cell.trained.seed is not None:
        facts["defense"].setdefault("asked", {})["train-seed"] = str(cell.trained.seed)
    return json.dumps(facts, allow_nan=False)


def move(root: Path, kind: str, name: str, cells: set[str]) -> None:
    """Move the lines of these cells to the archive."""
    path = root / kind / name
    if not cells or not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    gone = [line for line in lines if json.loads(line)["cell_id"] in cells]
    if not gone:
        return
    target = root / "archive" / kind / name
    before = target.read_text(encoding="utf-8") if target.is_file() else ""
    write_text(target, before + "".join(f"{line}\n" for line in gone))
    if kept := [line for line in lines if line not in gone]:
        write_text(path, "".join(f"{line}\n" for line in kept))
    else:
        path.unlink()


def main() -> None:
    """Restore and archive, and say how many."""
    root, registry = Path(sys.argv[1] if len(sys.argv) > 1 else "leaderboard"), Registry()
    for path in sorted((root / "records").glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        made = {line: restored(line, registry) for line in lines}
        lost = {json.loads(line)["cell_id"] for line, new in made.items() if new is None}
        found = sum(new not in (None, line) for line, new in made.items())
        if found:
            write_text(path, "".join(f"{made[line] or line}\n" for line in lines))
        for kind in ("records", "outcomes"):
            move(root, kind, path.name, lost)
        print(f"{path.name}: {found} restored, {len(lost)} archived, {len(lines)} in all", flush=True)


if __name__ == "__main__":
    main()
